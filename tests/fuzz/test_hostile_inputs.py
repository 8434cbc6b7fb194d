"""The fuzz of what is read from other people, in its short form; ``python tests/fuzz/run.py`` is the long one."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fuzzing import fuzz
from hostile_files import CASES

from stainda.errors import StaindaError


def _case(name):
    return next(case for case in CASES if case.name == name)


def test_what_the_long_form_found(tmp_path):
    """Names longer than a file system takes, JSON that nests without end, ranges without numbers."""
    path = _case("manifest").make(tmp_path)
    good = path.read_text()
    for row in (2, 3):
        lines = good.splitlines()
        lines[row - 1] = lines[row - 1].replace(".png", "A" * 3000 + ".png")
        path.write_text("\n".join(lines))
        with pytest.raises(StaindaError, match="missing"):
            _case("manifest").read(path)
    path = _case("transform").make(tmp_path)
    path.with_suffix(".json").write_text("[" * 100_000)
    with pytest.raises(StaindaError, match="cannot read the transform"):
        _case("transform").read(path)
    path = _case("study").make(tmp_path)
    path.write_text(path.read_text().replace("default: 5.0e-3", "default: much"))
    with pytest.raises(StaindaError, match="outside its own search range"):
        _case("study").read(path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_changed_file_is_read_or_refused_with_a_message(case):
    count = fuzz(case, 40)
    assert count.is_clean, (count.faults, count.slow, count.written)
    assert count.read + count.refused >= 40 and count.refused, "changes that nobody notices test nothing"
