"""The fault suite in its short form; ``python tests/faults/run.py`` is the long one."""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import killing
import pytest


def test_a_run_whose_leader_and_workers_are_killed_ends_as_an_undisturbed_one(tmp_path):
    truth = killing.run_whole(tmp_path / "whole")
    cast = killing.Cast(killing.Places(tmp_path, tmp_path, tmp_path), "killed", [], tmp_path)
    try:
        tally = killing.run_disturbed(
            cast, ("leader", "worker", "job of the leader", "job of a worker"), 5, random.Random(1)
        )
    finally:
        cast.end()
    assert tally.repetitions == 5 and tally.is_clean, tally
    assert (tmp_path / "killed" / "trials.csv").read_text() == truth
    assert not (tmp_path / "killed" / "shared").exists()


def test_a_killed_dask_scheduler_costs_nothing_that_is_finished(tmp_path):
    pytest.importorskip("distributed")
    truth = killing.run_whole(tmp_path / "whole")
    with killing.prepared(killing.Places(tmp_path, tmp_path, tmp_path), "killed", "Dask scheduler") as cast:
        tally = killing.run_disturbed(cast, ("Dask scheduler",), 1, random.Random(1))
    assert tally.repetitions == 1 and tally.is_clean, tally
    assert (tmp_path / "killed" / "trials.csv").read_text() == truth
