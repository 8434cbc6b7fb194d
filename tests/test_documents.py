"""What the documents say is what the code does."""

import json
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
    script = ROOT / "docs" / "tutorials" / "tutorial.py"
    out = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=900)
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


PAGES = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "data_manifests").glob("*.md"))
    for path in folder
)


MADE = {
    ROOT / "docs" / page
    for page in (
        *(f"reference/{name}.md" for name in ("commands", "configuration", "strategies", "manifest", "api/index")),
        *(f"tutorials/{path.stem}.md" for path in (ROOT / "docs" / "tutorials").glob("*.ipynb")),
    )
}
"""Pages that ``make site`` makes from code and notebooks; its build checks links to them."""


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            found = (path.parent / target).resolve()
            assert found.exists() or found in MADE, f"{page}: {target}"


@pytest.mark.parametrize("folder", ["stainda", "tests", "benchmarks", "configs", "studies", "data_manifests", "docs"])
def test_a_page_that_is_named_anywhere_is_there(folder):
    """Docstrings, help texts, messages, study files and pages name pages by their path."""
    named = {}
    for path in (ROOT / folder).rglob("*"):
        if path.suffix in (".py", ".yaml", ".j2", ".html", ".md", ".ipynb") and ".ipynb_checkpoints" not in path.parts:
            for page in re.findall(r"\bdocs/[\w/]+\.(?:md|py|csv)\b", path.read_text(encoding="utf-8")):
                named.setdefault(page, path.relative_to(ROOT))
    missing = [f"{page} ({where})" for page, where in named.items() if not (ROOT / page).exists()]
    assert not missing


def test_every_column_of_the_tables_is_documented():
    from stainda.evaluation import OBJECT_COLUMNS, RECORD_COLUMNS
    from stainda.registration.propagation import PROPAGATION_COLUMNS

    for page, columns in (
        ("reference/files", (*RECORD_COLUMNS, *OBJECT_COLUMNS)),
        ("concepts/propagation", PROPAGATION_COLUMNS),
    ):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        for column in columns:
            assert f"`{column}`" in text or f"{column}," in text or f"{column}`" in text, f"{page}: {column}"


def test_the_citation_and_the_changelog_are_of_this_version():
    import yaml

    import stainda

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["version"] == stainda.__version__
    assert f"## {stainda.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["tutorial.py", "first_study.ipynb", "own_slides.ipynb", "reading_a_report.ipynb"])
def test_tutorials_use_the_front_door_alone(name):
    text = (ROOT / "docs" / "tutorials" / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    imports = [line.strip() for line in text.splitlines() if re.match(r"\s*(from|import) .*\bstainda\b", line)]
    assert imports == ["import stainda as st"]
