"""The page on the run directory is made from the declarations, and what they point to is there."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_site"))

import run_directory as maker  # noqa: E402

from stainda.run_directory.contents import CONTENTS  # noqa: E402
from stainda.run_directory.declaration import Table  # noqa: E402


def test_the_page_is_as_made():
    text = maker.PAGE.read_text(encoding="utf-8")
    assert maker.page(text) == text, "run python docs/_site/run_directory.py"
    for declaration in CONTENTS:
        assert f"| `{declaration.path}` |" in text
        for column in declaration.columns if isinstance(declaration, Table) else ():
            assert f"| `{column.name}` |" in text


def test_what_stands_between_the_markers_is_made_again_and_no_more():
    text = maker.PAGE.read_text(encoding="utf-8")
    spoiled = text.replace("| `study.yaml` |", "| `studies.yaml` |").replace("# The run directory", "# My title")
    assert maker.page(spoiled) == text.replace("# The run directory", "# My title") != text
    with pytest.raises(SystemExit, match="markers"):
        maker.page("no markers")


def test_links_of_declarations_lead_to_pages():
    for see in {declaration.see for declaration in CONTENTS if declaration.see}:
        assert (maker.PAGE.parent / maker.PAGES[see]).is_file(), see
