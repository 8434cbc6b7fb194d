"""What the documents say is what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from stainda.cohort import inspect_manifest
from stainda.config import load_study

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.valis
def test_the_tutorial_runs_as_it_stands(tmp_path):
    out = subprocess.run(
        [sys.executable, ROOT / "docs" / "tutorial.py", tmp_path], capture_output=True, text=True, timeout=900
    )
    assert out.returncode == 0, out.stderr[-3000:]
    assert "report:" in out.stdout and "glomeruli in" in out.stdout


def test_the_manifest_of_the_quickstart_is_the_cohort_it_makes():
    config = load_study(ROOT / "studies" / "quickstart.yaml").phantom
    report = inspect_manifest(ROOT / "data_manifests" / "quickstart.csv", check_files=False)
    assert not report.faults
    assert {section.stain for section in report.sections} == set(config.stains)
    assert {section.centre for section in report.sections} == set(config.centres)
    assert len({section.patient for section in report.sections}) == config.patients
    assert len(report.sections) == config.patients * len(config.stains)


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page}: {target}"


def test_every_column_of_the_tables_is_documented():
    from stainda.evaluation import OBJECT_COLUMNS, RECORD_COLUMNS
    from stainda.registration.propagation import PROPAGATION_COLUMNS

    for page, columns in (("files", (*RECORD_COLUMNS, *OBJECT_COLUMNS)), ("propagation", PROPAGATION_COLUMNS)):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        for column in columns:
            assert f"`{column}`" in text or f"{column}," in text or f"{column}`" in text, f"{page}: {column}"
