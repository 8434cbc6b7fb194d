"""The examples of the pages for contributors run as they stand, each page in a process of its own.

A page registers a part, a format, a data set or a figure; none of them may be seen by another test.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from document_pages import ROOT, blocks

PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "contributing").glob("*.md"))
WITH_CODE = [page for page in PAGES if any(block.language == "py" for block in blocks(page))]


def test_every_kind_of_contribution_has_an_example_and_its_test():
    assert {Path(page).stem for page in WITH_CODE} == {"strategy", "format", "dataset", "figure"}


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_example_of_a_page_passes_its_test(page, tmp_path):
    code = "\n".join(block.text for block in blocks(page) if block.language == "py")
    assert "assert" in code
    script = tmp_path / "example.py"
    script.write_text(f"TESTS = {str(ROOT / 'tests')!r}\n{code}", encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
