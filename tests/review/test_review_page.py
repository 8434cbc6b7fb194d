"""The page in a real browser, by keyboard alone: what a reviewer presses is what is saved, and what is seen is true."""

from __future__ import annotations

import io

import numpy as np
import pytest
import shapely
from chromium import Browser, find_browser
from PIL import Image

from stainda.registration import load_block
from stainda.review.decisions import read_decisions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium here (chromium, google-chrome or microsoft-edge)"),
]

QUIET = "document.querySelectorAll('.pane').length == 2 && document.querySelector('#object b')"


@pytest.fixture
def page(serve):
    """The page of block P0, whose SR section lies turned and mirrored on the glass."""
    server = serve(block="P0")
    with Browser() as browser:
        browser.open(server.url)
        browser.wait("document.querySelectorAll('.row').length == 4")
        browser.wait(QUIET)
        settle(browser)
        yield browser
        assert browser.messages == []  # nothing thrown, nothing blocked by the page's policy


def settle(browser):
    """Until two pictures of the sections, half a second apart, are the same and not blank."""
    import time

    last = None
    for _ in range(60):
        shown = sections(browser)
        if last is not None and np.array_equal(last, shown) and shown.std() > 8:
            return
        last = shown
        time.sleep(0.5)
    raise AssertionError("the sections do not come to rest")


def sections(browser):
    return picture(browser)[150:700, 330:1340]


def picture(browser, box=None):
    import base64

    data = browser._ask("Page.captureScreenshot", format="png")["data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), int)


def saved(browser, count):
    browser.wait(f"document.getElementById('count').textContent.startsWith('{count} of 4')")


def test_a_turned_and_mirrored_section_is_seen_as_the_others_are(page):
    """Objects stand at the same places of both panes: their pixels overlap."""
    page.press("o")  # without outlines
    for _ in range(4):
        page.press("-")
    settle(page)
    boxes = page.evaluate(
        "[...document.querySelectorAll('.stage')].map(one => { const box = one.getBoundingClientRect();"
        " return [box.left, box.top, box.width, box.height].map(Math.round); })"
    )
    seen = picture(page)
    masks = []
    for (left, top, width, height), colour in zip(boxes, ((150, 60, 130), (190, 70, 60)), strict=True):
        pane = seen[top : top + height, left : left + width]
        masks.append(np.abs(pane - colour).max(axis=2) < 40)
    share = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert masks[0].sum() > 3000 and share > 0.9


def test_decisions_by_keyboard_alone(page, run):
    page.press("?")
    page.wait("document.getElementById('help-box').open")
    page.press("a")  # the page behind the help does not listen
    page.press("Escape")
    page.wait("!document.getElementById('help-box').open")
    assert read_decisions(run) == {}
    first = page.evaluate("document.querySelector('[aria-selected=true]').dataset.key")
    page.press("j")
    page.press("k")
    assert page.evaluate("document.querySelector('[aria-selected=true]').dataset.key") == first
    page.press("a")
    saved(page, 1)
    page.press("r")
    saved(page, 2)
    page.press("u")
    saved(page, 1)
    page.press("i")
    saved(page, 2)
    assert sorted(made.kind for made in read_decisions(run).values()) == ["accept", "unsure"]
    assert page.evaluate("document.activeElement.id") == "list"  # no pointer was needed


def test_a_nudge_to_the_right_moves_to_the_right_of_what_is_seen(page, run):
    """The frame stands upright on the screen, whichever way the section lies on the glass."""
    page.press("n")
    for _ in range(5):
        page.press("ArrowRight", shift=True)
    page.press("Enter")
    saved(page, 1)
    (made,) = read_decisions(run).values()
    transform = load_block(run / "registration", "P0").transforms["P0_SR"]
    centres = [shapely.get_coordinates(one.centroid) for one in (made.propagated, made.geometry)]
    before, after = (transform.to_frame(centre)[0] for centre in centres)
    step = after - before
    if transform.frame == "P0_SR":  # then the other section was turned, and this one stands as it lies
        step = step / np.linalg.norm(step)
    assert made.kind == "nudge" and step[0] > 0 and abs(step[1]) < 0.02 * step[0]


def test_a_polygon_is_drawn_by_keyboard_and_by_pointer(page, run):
    page.press("d")
    for key in ("ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft"):
        for _ in range(3):
            page.press(key, shift=True)
        page.press(" ")
    page.press("Enter")
    saved(page, 1)
    (made,) = read_decisions(run).values()
    assert made.kind == "redraw" and len(made.geometry.exterior.coords) == 5
    box = page.evaluate(
        "(() => { const box = document.querySelector('.pane.target .stage').getBoundingClientRect();"
        " return [box.left + box.width / 2, box.top + box.height / 2]; })()"
    )
    settle(page)
    page.press("d")
    turn = np.linspace(0, 2 * np.pi, 60)
    points = np.stack([box[0] + 90 * np.cos(turn), box[1] + 90 * np.sin(turn)], axis=1)
    page.mouse("mousePressed", *points[0])
    for point in points[1:]:
        page.mouse("mouseMoved", *point)
    page.mouse("mouseReleased", *points[-1])
    page.press("Enter")
    saved(page, 2)
    drawn = max((made.geometry for made in read_decisions(run).values()), key=lambda one: len(one.exterior.coords))
    assert len(drawn.exterior.coords) > 30
    assert 4 * np.pi * drawn.area / drawn.length**2 > 0.95  # a circle


def test_escape_leaves_a_drawing_without_a_decision(page, run):
    page.press("d")
    page.press(" ")
    page.press("Escape")
    page.wait("document.getElementById('mode').hidden")
    assert read_decisions(run) == {}


@pytest.mark.parametrize("width", [1024, 1366, 1920])
def test_nothing_overflows_at_the_width_of_a_laptop(serve, width):
    server = serve()
    with Browser(width, 768) as browser:
        browser.open(server.url)
        browser.wait(QUIET)
        wide = browser.evaluate(
            "[...document.querySelectorAll('body, header, aside, main, #actions, .object, .view, .pane')]"
            ".filter(one => one.scrollWidth > one.clientWidth + 1"
            " || one.getBoundingClientRect().right > innerWidth + 1)"
            ".map(one => one.id || one.className || one.tagName)"
        )
        assert wide == []
