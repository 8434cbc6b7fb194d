"""Shared by all tests: one torch thread, and the folder of real images."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # tests share the makers of small data


def data_folder() -> Path | None:
    """Real images kept outside the repository: ``STAINDA_DATA``, or ``../shared/data`` next to the checkout."""
    named = os.environ.get("STAINDA_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = data_folder()
    if folder is None:
        pytest.skip("real images are not here (set STAINDA_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def blob_manifest(tmp_path_factory) -> Path:
    """Manifest of a tiny cohort of PNG slides, see tests/small_cohorts.py. Read it only."""
    from small_cohorts import make_blob_cohort

    return make_blob_cohort(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(autouse=True)
def _the_command_line_speaks() -> None:
    """Also after a test that called a command with ``--quiet``."""
    if display := sys.modules.get("stainda.cli.display"):
        display.silence(False)


@pytest.fixture
def decoded_here(monkeypatch) -> None:
    """Slides are decoded in this process, for tests that change or look at the reader."""
    monkeypatch.setenv("STAINDA_DECODE_HERE", "1")
