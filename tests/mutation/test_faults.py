"""The named faults of the mutation run can still be made in the code as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_every_fault_stands_where_it_is_made():
    run = subprocess.run(
        [sys.executable, Path(__file__).parent / "run.py", "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
