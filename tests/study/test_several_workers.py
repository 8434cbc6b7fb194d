"""A run with further workers ends with the records of a run alone, also when one of them is killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from test_batches_of_trials import COSTS, _trained, prepared  # noqa: F401 (a fixture)

from stainda.errors import StaindaError
from stainda.pool import Outcome
from stainda.run_directory.claims import GivenUp
from stainda.run_directory.folder import RunFolder
from stainda.study import run_study
from stainda.study.shared_workers import SharedRequest, Taken, run_claimed
from stainda.study.sharing import SharedFolder
from stainda.study.worker import work_for


def _start(out, *options):
    command = [sys.executable, "-c", "from stainda.cli import main; main()", "worker", out, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_another_worker_helps_and_may_be_killed(prepared, tmp_path):  # noqa: F811
    """The leader trains nothing of a batch that others have claimed; one of them is killed when it has begun."""
    import shutil
    import threading

    records, trials = _trained(prepared, tmp_path / "alone", 4, 1)
    study, patches = prepared
    out = tmp_path / "shared"
    shutil.copytree(patches, out)
    helper = _start(out, "--workers", "1", "--wait", "300")
    claimed = threading.Event()

    def kill_when_it_works():
        while not claimed.is_set():
            for path in (out / "shared" / "claims").glob("*"):
                if f'"pid": {os.getpid()}' not in path.read_text() and helper.poll() is None:
                    claimed.set()
            time.sleep(0.05)
        os.kill(helper.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_it_works, daemon=True)
    killer.start()
    run_study(study, out, overrides=["search.batch=4", "workers=1"], until="evaluate")
    killer.join(10)
    assert claimed.is_set()
    helper.wait()
    pd.testing.assert_frame_equal(pd.read_parquet(out / "records.parquet"), records, check_exact=True)
    found = pd.read_csv(out / "trials.csv").drop(columns=COSTS)
    pd.testing.assert_frame_equal(found, trials, check_exact=True)
    assert not (out / "shared").exists()


def test_a_run_that_has_ended_needs_no_worker(prepared):  # noqa: F811
    assert work_for(prepared[1], workers=1) == 0


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(StaindaError, match="not a run directory"):
        work_for(tmp_path)


def test_an_end_is_seen_before_the_claim_is_free(tmp_path):
    """Who claims a training after another one has ended it does not do it again, before and after the leader saw it."""
    shared = SharedFolder(RunFolder(tmp_path))
    path = tmp_path / "shared" / "open" / "a.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert shared.open_keys() == ["a"] and shared.is_open("a")
    shared.end(Outcome("a", reason="no memory", unexpected=True))
    assert shared.open_keys() == [] and not shared.is_open("a")
    ended = shared.ended("a", None)
    assert ended.reason == "no memory" and ended.unexpected
    shared.remove("a")
    assert not shared.is_open("a") and shared.ended("a", None) is None


@pytest.mark.parametrize("text", ["", None], ids=["nothing written yet", "a holder"])
def test_what_a_lost_machine_had_claimed_is_trained_elsewhere(tmp_path, text):
    """The worker process does not wait once more for the silence that its leader has seen."""
    shared = _shared_with_open_job(tmp_path)
    path = _claim_of_another_machine(shared)
    if text is not None:
        path.write_text(text)
    assert not shared.claims.is_free("a")
    for seen in shared.claims._seen.values():
        seen.since -= 3600
    assert shared.claims.is_free("a")
    given = SharedRequest.of(shared, "a")
    assert run_claimed("a", given, lambda shared: "trained") == "trained"
    assert shared.has_ended("a")


def test_a_claim_that_changed_meanwhile_is_not_taken_over(tmp_path):
    shared = _shared_with_open_job(tmp_path)
    path = _claim_of_another_machine(shared)
    assert not shared.claims.is_free("a")
    for seen in shared.claims._seen.values():
        seen.since -= 3600
    given = SharedRequest.of(shared, "a")
    path.write_text(path.read_text().replace('"beat": 0', '"beat": 1'))
    assert isinstance(run_claimed("a", given, lambda shared: "trained"), Taken)
    path.unlink()
    (path.parent / "a.2").touch()  # another one is about to write its claim
    empty = replace(given, given_up=GivenUp(1, ""))
    assert isinstance(run_claimed("a", empty, lambda shared: "trained"), Taken)


@pytest.mark.parametrize("place", ["shared/ended/a.json", "jobs/a/done"])
def test_what_another_machine_has_done_is_not_done_again_before_it_is_seen(tmp_path, monkeypatch, place):
    """A client of a network file system remembers that a file is missing."""
    shared = _shared_with_open_job(tmp_path)
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text("scored")
    with monkeypatch.context() as patch:
        for name in ("exists", "is_file", "stat"):
            patch.setattr(Path, name, _remembered_missing(path, getattr(Path, name)))
        assert isinstance(run_claimed("a", SharedRequest.of(shared, "a"), lambda shared: "trained"), Taken)
    assert path.read_text() == "scored"


def _remembered_missing(missing, look):
    def looked(self, *given, **more):
        if self == missing:
            if look.__name__ == "stat":
                raise FileNotFoundError(self)
            return False
        return look(self, *given, **more)

    return looked


def test_a_probe_that_was_killed_leaves_a_training_open(tmp_path):
    shared = _shared_with_open_job(tmp_path)
    for place in ("shared/ended/a.json", "jobs/a/done"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
    assert shared.open_keys() == ["a"] and shared.is_open("a") and shared.ended("a", None) is None


def _shared_with_open_job(root):
    path = root / "shared" / "open" / "a.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return SharedFolder(RunFolder(root))


def _claim_of_another_machine(shared):
    path = shared.claims.take("a").path
    path.write_text(path.read_text().replace('"machine": "', '"machine": "another/'))
    return path


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_records(prepared, tmp_path):  # noqa: F811
    import shutil

    records, trials = _trained(prepared, tmp_path / "alone", 2, 1)
    study, patches = prepared
    out = tmp_path / "dask"
    shutil.copytree(patches, out)
    run_study(study, out, overrides=["search.batch=2", "workers=2", "engine=dask"], until="evaluate")
    pd.testing.assert_frame_equal(pd.read_parquet(out / "records.parquet"), records, check_exact=True)
    found = pd.read_csv(out / "trials.csv").drop(columns=COSTS)
    pd.testing.assert_frame_equal(found, trials, check_exact=True)
