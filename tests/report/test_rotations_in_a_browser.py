"""The page over all rotations in headless Chromium: silent, offline, no overflow, nothing serious for axe."""

from __future__ import annotations

import pytest
from browser import axe_source, chromium, look_at
from test_page_of_rotations import FROM_A, FROM_B, _rotation, make_root

from stainda.report import make_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on the path (STAINDA_CHROMIUM names one)"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rotations = [
        _rotation("PAS@A", "PAS@A", "SR@A; PAS@B", FROM_A), _rotation("PAS@B", "PAS@B", "PAS@A; SR@A", FROM_B),
        _rotation("SR@A", "SR@A", "PAS@A", {}, state="failed"),
    ]  # fmt: skip
    return make_report(make_root(tmp_path_factory.mktemp("browser") / "root", rotations, {"scheme": "all_pairs"}))


@pytest.mark.parametrize("width", [500, 1366])  # headless windows are no narrower than 500
def test_the_page_of_a_root_is_silent_asks_for_nothing_and_does_not_overflow(page, width, tmp_path):
    found, console = look_at(page, tmp_path, width)
    assert console == []
    assert found["requests"] == [] and found["overflow"] <= 0
    assert found["rows"] > 5


@pytest.mark.skipif(axe_source() is None, reason="STAINDA_AXE names no axe.min.js (npm pack axe-core)")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_on_the_page_of_a_root(page, dark, tmp_path):
    found, _ = look_at(page, tmp_path, axe=axe_source(), dark=dark)
    assert [one for one in found["violations"] if one["impact"] in ("serious", "critical")] == []
