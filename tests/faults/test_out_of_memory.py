"""A training whose process is killed, or that meets its memory limit, costs that training; the study goes on."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from small_cohorts import QUICK_STUDY, write_study

from stainda.errors import TrainingError
from stainda.run_directory.claims import Holder
from stainda.run_directory.folder import RunFolder
from stainda.study import jobs, run_study
from stainda.study.attempts import LIMIT, attempt, death_reason, deaths, is_out_of_memory

RUN = "import sys; from stainda.study import *; run_study(*sys.argv[1:3], overrides=sys.argv[3:], until='evaluate')"
STUDY = "study: memory\nstrategies: [source_only, greyscale]\nceiling: source_only\n" + QUICK_STUDY
ROOM = 2**20  # bytes that a training may take beyond what its process has when it begins


@pytest.fixture(scope="module")
def prepared(blob_manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    study = write_study(blob_manifest, folder / "study.yaml", STUDY)
    return study, run_study(study, folder / "run", until="patches")


class Striker:
    """Does something to the process of each training of ``greyscale`` while it trains, by its claim."""

    def __init__(self, root, strike):
        self.root, self.strike, self.struck, self._ended = root, strike, [], threading.Event()
        self._began = time.time()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()

    def _watch(self):
        while not self._ended.wait(0.005):
            for path in self.root.glob("jobs/*/attempt.json"):
                key = path.parent.name
                with contextlib.suppress(OSError, ValueError):
                    if path.stat().st_mtime < self._began:
                        continue  # of a run before: this one has not begun the training yet
                    job = json.loads((self.root / "shared" / "open" / f"{key}.json").read_text())["job"]
                    claims = (self.root / "shared" / "claims").glob(f"{key}.*")
                    holder = json.loads(max(claims, key=lambda path: int(path.suffix[1:])).read_text())
                    if Holder(*(holder[name] for name in ("machine", "pid", "born"))).is_gone:
                        continue  # what a killed run left
                    if job["strategy"]["name"] == "greyscale" and holder["token"] not in self.struck:
                        self.struck.append(holder["token"])
                        self.strike(holder["pid"])


def _kill(pid):
    os.kill(pid, signal.SIGKILL)


def _limit(pid):
    """No more memory than the process has: the next large allocation fails."""
    taken = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (taken + ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _start(prepared, out, workers=1):
    study, patches = prepared
    if not out.exists():
        shutil.copytree(patches, out)
    return subprocess.Popen(
        [sys.executable, "-c", RUN, study, out, f"workers={workers}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def _states(out):
    trials = pd.read_csv(out / "trials.csv").set_index("strategy")
    return dict(trials["state"]), str(trials["reason"].get("greyscale"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_training_is_tried_again_and_reported(prepared, tmp_path, workers):
    out = tmp_path / "run"
    with Striker(out, _kill) as striker:
        run = _start(prepared, out, workers)
        said, _ = run.communicate(timeout=900)
    assert run.returncode == 0, said
    states, reason = _states(out)
    assert states == {"source_only": "complete", "greyscale": "failed"}
    assert "killed (signal 9), most often for memory" in reason and "training.batch_size" in reason
    # two tries; among several processes each try is made once more alone, to know whose process it was
    assert 2 <= len(striker.struck) <= (4 if workers > 1 else 2)
    assert not list(out.glob("jobs/*/attempt.json"))


@pytest.mark.slow
def test_a_training_that_meets_its_memory_limit_is_reported(prepared, tmp_path):
    out = tmp_path / "run"
    with Striker(out, _limit) as striker:
        run = _start(prepared, out)
        said, _ = run.communicate(timeout=900)
    assert run.returncode == 0, said
    assert striker.struck
    states, reason = _states(out)
    assert states == {"source_only": "complete", "greyscale": "failed"}
    assert "training.batch_size" in reason


@pytest.mark.slow
def test_a_training_that_kills_the_run_does_not_block_the_study(prepared, tmp_path):
    """As where a container or a batch job is ended whole: the process of the training and the leader at once."""
    out = tmp_path / "run"
    kills, ended = 0, None
    while ended is None or ended == -signal.SIGKILL:
        assert kills <= LIMIT + 1, "one more than the limit where the first struck while it was scored"
        run = _start(prepared, out)
        with Striker(out, lambda pid, group=run.pid: (_kill(pid), os.killpg(group, signal.SIGKILL))):
            said, _ = run.communicate(timeout=900)
        ended = run.returncode
        kills += ended == -signal.SIGKILL
    assert ended == 0 and kills >= LIMIT, said
    states, reason = _states(out)
    assert states == {"source_only": "complete", "greyscale": "failed"}
    assert f"{LIMIT} times in a row, and the run died with it" in reason


def test_only_deaths_at_the_same_point_count(tmp_path):
    def die():
        with contextlib.suppress(BaseException):  # what a killed process leaves
            begun = attempt(tmp_path)
            begun.__enter__()
            kept = (tmp_path / "attempt.json").read_text()
            begun.__exit__(None, None, None)
            (tmp_path / "attempt.json").write_text(kept)

    assert deaths(tmp_path) == 0
    for count in (1, 2):
        die()
        assert deaths(tmp_path) == count
    (tmp_path / "resume.json").write_text("{}")
    assert deaths(tmp_path) == 0, "it came further"
    for _ in range(LIMIT):
        die()
    with pytest.raises(TrainingError, match="3 times in a row"), attempt(tmp_path):
        raise AssertionError("it was begun")
    with attempt(tmp_path):
        assert (tmp_path / "attempt.json").is_file()
    assert not (tmp_path / "attempt.json").exists()


LEADER = """
import os, sys, time
from pathlib import Path
from stainda.study.attempts import attempt, deaths, forget
from stainda.study.executor import Workers, when_orphaned

def job(key, folder):
    with attempt(folder), when_orphaned(lambda: forget(folder)):
        WORK

def nothing(threads):
    pass

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with Workers(1, job, prepare=nothing) as workers:
        workers.submit("a", folder, alone=deaths(folder) > 0)
        while workers.busy:
            print(*[outcome.reason for outcome in workers.completed(lambda steps: None)])
"""


def _lead(folder, work):
    """A leader with one job, which does ``work``."""
    (folder / "lead.py").write_text(LEADER.replace("WORK", work))
    return subprocess.Popen(
        [sys.executable, folder / "lead.py", folder], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_a_job_that_takes_its_run_with_it_is_reported_in_the_end(tmp_path):
    """As where a container or a batch job is ended whole: job and leader at once."""
    for number in range(LIMIT):
        leader = _lead(tmp_path, "os.killpg(0, 9)")
        assert leader.wait(60) == -signal.SIGKILL and deaths(tmp_path) == number + 1
    said, _ = _lead(tmp_path, "os.killpg(0, 9)").communicate(timeout=60)
    assert "killed (signal 9), most often for memory" in said and f"{LIMIT} times in a row" in said
    said, _ = _lead(tmp_path, "pass").communicate(timeout=60)
    assert said.strip() == "None", "the next call tries it again"


def test_a_job_that_is_killed_is_reported_with_its_signal(tmp_path):
    said, _ = _lead(tmp_path, "os.kill(os.getpid(), 9)").communicate(timeout=60)
    assert "killed (signal 9), most often for memory: lower training.batch_size" in said
    assert deaths(tmp_path) == 1, "until the leader has counted it"


def test_a_job_at_its_memory_limit_is_reported(tmp_path):
    work = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); bytearray(2**31)"
    said, _ = _lead(tmp_path, work).communicate(timeout=60)
    assert "MemoryError" in said and not (tmp_path / "attempt.json").exists()


def test_a_job_whose_run_is_gone_counts_no_death(tmp_path):
    """Who kills a leader by hand has not killed its trainings: they notice, and end."""
    from test_interrupted import _wait_for

    leader = _lead(tmp_path, "time.sleep(60)")
    _wait_for((tmp_path / "attempt.json").is_file)
    leader.kill()
    leader.wait()
    _wait_for(lambda: not (tmp_path / "attempt.json").exists(), 20)


@pytest.mark.parametrize(
    "error, expected",
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_what_is_for_want_of_memory_is_known(tmp_path, monkeypatch, error, expected):
    def fail(*_):
        raise error

    monkeypatch.setattr(jobs, "_train_and_score", fail)
    request = type("Request", (), {"folder": RunFolder(tmp_path)})()
    with pytest.raises(jobs.UnexpectedError) as raised:
        jobs.run_job("a", request)
    assert is_out_of_memory(error) == expected == ("training.batch_size" in str(raised.value))


def test_a_signal_that_is_not_for_memory_is_named():
    assert "signal 11, SIGSEGV" in death_reason(-11) and "memory" not in death_reason(-11)
    assert "status 3" in death_reason(3)
