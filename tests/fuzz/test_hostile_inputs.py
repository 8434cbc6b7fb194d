"""The fuzz of what is read from other people, in its short form; ``python tests/fuzz/run.py`` is the long one."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fuzzing import fuzz
from hostile_files import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_changed_file_is_read_or_refused_with_a_message(case):
    count = fuzz(case, 40)
    assert count.is_clean, (count.faults, count.slow, count.written)
    assert count.read + count.refused >= 40 and count.refused, "changes that nobody notices test nothing"
