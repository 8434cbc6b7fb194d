"""One small run for all tests of the review: copied before it is changed."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def propagated_run(tmp_path_factory) -> Path:
    """A run up to its propagated annotations, one section of block P0 turned by 35° and mirrored. Read it only."""
    from reviewed_runs import make_turned_run

    return make_turned_run(tmp_path_factory.mktemp("review"))


@pytest.fixture
def run(propagated_run, tmp_path) -> Path:
    shutil.copytree(propagated_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def serve(run):
    """Starts servers of the run; they end with the test."""
    from stainda.review import ReviewServer

    started = []

    def start(**options):
        server = ReviewServer(run, options.pop("reviewer", "Dr A"), **options)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.stop()
        thread.join(10)
        server.__exit__()
