"""The review page at the width of a phone: nothing beside the screen, buttons for a thumb, decisions that are saved."""

from __future__ import annotations

import pytest
from chromium import Browser, find_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium here (chromium, google-chrome or microsoft-edge)"),
]

BOXES = """[...document.querySelectorAll(%r)].filter((one) => one.offsetParent).map((one) => {
  const box = one.getBoundingClientRect();
  return { words: one.textContent.trim() || one.id, x: box.x, width: box.width, height: box.height };
})"""


@pytest.fixture
def phone(serve):
    server = serve(block="P0")
    with Browser(390, 844) as browser:
        browser.open(server.url)
        browser.wait("document.querySelectorAll('.row').length == 4")
        browser.wait("document.querySelectorAll('.pane').length == 2 && document.querySelector('#object b')")
        yield browser
        assert browser.messages == []


def test_nothing_stands_beside_the_screen_and_every_button_fits_a_thumb(phone):
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    for box in phone.evaluate(BOXES % "button, select"):
        assert box["height"] >= 40 and box["x"] >= 0 and box["x"] + box["width"] <= 390, box
    panes = phone.evaluate(BOXES % ".pane")
    assert len({round(pane["x"]) for pane in panes}) == 1, "the sections stand above each other"
    assert all(pane["width"] > 300 and pane["height"] >= 200 for pane in panes)
    assert phone.evaluate("document.querySelector('#list').clientHeight") > 250


def test_the_decisions_stay_in_reach_and_a_tap_is_saved(phone):
    box = phone.evaluate("document.querySelector('[data-act=accept]').getBoundingClientRect().toJSON()")
    assert box["top"] >= 0 and box["bottom"] <= 844, "without scrolling"
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    phone.mouse("mousePressed", x, y)
    phone.mouse("mouseReleased", x, y)
    phone.wait("document.getElementById('count').textContent.startsWith('1 of 4')")


def test_an_object_chosen_in_the_list_below_is_brought_into_sight(phone):
    phone.evaluate("document.querySelector('#list').scrollIntoView()")
    phone.evaluate("document.querySelectorAll('.row')[3].click()")
    phone.wait("document.querySelectorAll('.row')[3].getAttribute('aria-selected') == 'true'")
    phone.wait("document.querySelector('main').getBoundingClientRect().top < 100")
    phone.wait("document.querySelector('.pane').getBoundingClientRect().top < 500")
