"""The page in headless Chromium: no word on the console, no request, no overflow, nothing serious for axe."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml
from browser import axe_source, chromium, look_at
from make_run import make_run, object_gallery

from stainda.report import make_comparison, make_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on the path (STAINDA_CHROMIUM names one)"),
]
SMALL = dict(
    test_patients=6, stains=("PAS", "SR", "CD68"), centres=("A", "B"), strategies=("source_only", "dann", "oracle"),
    seeds=1, trials=3,
)  # fmt: skip
WORDS = ("reason", "title", "note", "remedy", "scanner", "annotator")  # columns that a page shows as they are


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    runs = [make_run(folder / name, **SMALL) for name in ("one", "two")]
    object_gallery(runs[0])
    return {"report": make_report(runs[0]), "comparison": make_comparison(runs, folder / "comparison")}


@pytest.mark.parametrize("page", ["report", "comparison"])
@pytest.mark.parametrize("width", [500, 1366])  # headless windows are no narrower than 500
def test_a_page_is_silent_asks_for_nothing_and_does_not_overflow(pages, page, width, tmp_path):
    found, console = look_at(pages[page], tmp_path, width)
    assert console == []
    assert found["requests"] == [] and found["overflow"] <= 0
    assert found["rows"] > 5


def test_no_script_of_a_hostile_run_runs(tmp_path):
    """Its title, and whatever its tables say in words."""
    strike = "document.documentElement.dataset.struck='here'"
    hostile = f'"><img src=x onerror="{strike}"><script>{strike}</script>'
    run, changed = make_run(tmp_path / "run", **SMALL), 0
    object_gallery(run)
    for path in run.rglob("*.csv"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        words = [name for name in table.columns if name in WORDS]
        table[words] = hostile
        table.to_csv(path, index=False)
        changed += len(words)
    study = run / "study.yaml"
    study.write_text(yaml.safe_dump({**yaml.safe_load(study.read_text()), "title": hostile, "question": hostile}))
    page = make_report(run)
    assert changed > 5 and page.read_text().count("&lt;img src=x") > 5
    found, console = look_at(page, tmp_path)
    assert found["struck"] == "" and console == [] and found["requests"] == []
    page.write_text(page.read_text().replace("</body>", f"<script>{strike}</script></body>"))
    assert look_at(page, tmp_path)[0]["struck"] == "here", "a script that runs is seen"


@pytest.mark.skipif(axe_source() is None, reason="STAINDA_AXE names no axe.min.js (npm pack axe-core)")
@pytest.mark.parametrize("page", ["report", "comparison"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(pages, page, dark, tmp_path):
    found, _ = look_at(pages[page], tmp_path, axe=axe_source(), dark=dark)
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert serious == []
