"""The page at the width of a phone: it does not scroll sideways, and what does says so and can be reached by keys."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from long_names import long_run

from stainda.report import make_report

sys.path.append(str(Path(__file__).parents[1] / "review"))
from chromium import Browser, find_browser

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_browser() is None, reason="no Chromium on the path")]

BOXES = """[...document.querySelectorAll(".scroll")].filter((one) => one.offsetParent).map((one) => ({
  wide: one.scrollWidth > one.clientWidth + 1,
  told: Boolean(one.previousElementSibling?.matches(".sideways:not([hidden])")),
  keys: one.tabIndex === 0 && one.getAttribute("role") === "region" && Boolean(one.getAttribute("aria-label")),
}))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return make_report(long_run(tmp_path_factory.mktemp("phone") / "run", trials=3))


@pytest.mark.parametrize("width", [390, 1366])
def test_what_is_wider_than_the_screen_says_so_and_the_page_does_not_scroll_sideways(page, width):
    with Browser(width, 844) as browser:
        browser.open(page.as_uri())
        browser.wait("document.readyState === 'complete' && document.querySelector('.sideways')")
        browser.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        browser.wait("[...document.querySelectorAll('.sideways')].some((one) => !one.hidden)")
        browser.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 200)))")
        boxes = browser.evaluate(BOXES)
        assert len(boxes) > 20 and all(box["keys"] for box in boxes)
        assert all(box["wide"] == box["told"] for box in boxes)
        assert any(box["wide"] for box in boxes) and (width > 390 or sum(box["wide"] for box in boxes) > 10)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.messages == []
