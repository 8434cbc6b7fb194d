"""A run of tiny jobs with the leader, the claims, the search and the storage of a real one.

``python tiny_run.py leader RUN [--storage ADDRESS] [--scheduler ADDRESS]`` and ``python tiny_run.py worker RUN``. A job
sleeps a little and writes a number that follows from its settings. Each time one is done to its end it leaves a file in
``journal/JOB``, and one that ends in ``.twice`` where another process was at the same job. The last jobs of each
strategy wait for the file ``faults_are_over``: a run on a fast machine does not end before the last fault. These files
are in RUN, or in the folder of ``--witness`` where RUN is on a network file system: caches do not show them at once.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stainda.cohort import Cohort
from stainda.config import EngineConfig, EvaluationConfig, SearchConfig, SearchRange
from stainda.errors import StaindaError
from stainda.files import stable_hash, write_csv, write_json, write_text
from stainda.pool import Outcome, WorkerPool
from stainda.progress import SILENT
from stainda.run_directory.contents import DONE
from stainda.run_directory.folder import RunFolder
from stainda.study.executor import Workers
from stainda.study.heartbeat import RunProgress
from stainda.study.search import StrategySearch
from stainda.study.shared_workers import SharedRequest, SharedWorkers, run_claimed
from stainda.study.sharing import SharedFolder
from stainda.study.storage import sqlite_address
from stainda.study.worker import Taking

STRATEGIES, TRIALS, BATCH, SECONDS = ("plain", "dann", "adabn"), 8, 2, 0.15
SPACE = {"rate": SearchRange(low=1e-4, high=1e-1, log=True), "weight": SearchRange(low=0.0, high=1.0)}
DEFAULTS = {"rate": 1e-3, "weight": 0.1}
FAULTS_ARE_OVER, WITNESS = "faults_are_over", "STAINDA_TEST_WITNESS"


@dataclass(frozen=True)
class TinyRequest:
    strategy: str
    trial: int
    params: dict

    @property
    def key(self) -> str:
        return stable_hash([self.strategy, self.params])


class TinyFolder(SharedFolder):
    """Open jobs of settings alone."""

    def open(self, key, request):
        (self.folder.root / "shared" / "ended" / f"{key}.json").unlink(missing_ok=True)
        write_json(self.folder.root / "shared" / "open" / f"{key}.json", vars(request))

    def request(self, key):
        try:
            return TinyRequest(**json.loads((self.folder.root / "shared" / "open" / f"{key}.json").read_text()))
        except FileNotFoundError as error:
            raise StaindaError("closed") from error

    def steps(self, request):
        return 1

    def ended(self, key, request):
        path = self.folder.root / "shared" / "ended" / f"{key}.json"
        if not self.has_ended(key):
            return None
        values = json.loads(path.read_text())
        if values["reason"] is not None:
            return Outcome(key, reason=values["reason"], unexpected=values["unexpected"])
        value = result_of(self.folder, key)
        return None if value is None else Outcome(key, value)


def result_of(folder: RunFolder, key: str) -> float | None:
    if not (folder.job(key) / DONE.name).is_file():  # looked for first, as in a real run
        return None
    path = folder.job(key) / "result.json"
    return json.loads(path.read_text())["score"] if path.is_file() else None


def work(folder: RunFolder, key: str, request: TinyRequest) -> float:
    """Whatever is complete is not done again, as in a real job."""
    if (value := result_of(folder, key)) is not None:
        return value
    witness = Path(os.environ.get(WITNESS, folder.root))
    mark = witness / "in_work" / f"{key}.{os.getpid()}"
    others = [path for path in mark.parent.glob(f"{key}.*") if path != mark and _is_alive(path.name)]
    write_text(mark, "")
    for _ in range(3):  # epochs
        time.sleep(SECONDS / 3)
    while request.trial >= TRIALS - BATCH and not (witness / FAULTS_ARE_OVER).exists():
        time.sleep(0.02)
    digits = hashlib.sha256(json.dumps(request.params, sort_keys=True).encode()).digest()
    value = 1 - abs(request.params["weight"] - 0.6) - int.from_bytes(digits[:4], "big") / 2**36
    journal = witness / "journal" / key / uuid.uuid4().hex
    write_text(journal.with_suffix(".begun"), "")
    write_json(folder.job(key) / "result.json", {"score": value})
    write_text(folder.job(key) / DONE.name, "scored")
    journal.with_suffix(".begun").rename(journal)
    if others:
        write_text(journal.with_suffix(".twice"), "")
    mark.unlink(missing_ok=True)
    return value


def _is_alive(name: str) -> bool:
    """A process that has ended and that nobody has waited for yet is not."""
    try:
        return Path(f"/proc/{name.rpartition('.')[2]}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def run_tiny(key: str, given: SharedRequest):
    def under_claim(_shared):
        return work(given.folder, key, TinyFolder(given.folder).request(key))

    return run_claimed(key, given, under_claim)


def nothing(threads: int) -> None:
    """A tiny job needs no torch."""


@contextlib.contextmanager
def workers_of(scheduler: str) -> Iterator[WorkerPool]:
    """One process of this leader, or the workers of a Dask cluster."""
    if not scheduler:
        with Workers(1, run_tiny, prepare=nothing) as local:
            yield local
        return
    from stainda.study.dask_engine import DaskWorkers, dask_client

    with dask_client(EngineConfig(name="dask", scheduler=scheduler), 1) as client:
        yield DaskWorkers(client, run_tiny, prepare=nothing)


def lead(root: Path, storage: str, scheduler: str) -> None:
    folder = RunFolder(root)
    with folder.locked(), RunProgress(root, SILENT, ("train",)):
        write_text(root / "study.yaml", "study: tiny\n")
        shared, rows = TinyFolder(folder), []
        searches = {
            name: StrategySearch(f"{name}/tiny", SPACE, DEFAULTS, SearchConfig(trials=TRIALS, batch=BATCH), 1, storage)
            for name in STRATEGIES
        }
        drawn, ended = dict.fromkeys(STRATEGIES, 0), dict.fromkeys(STRATEGIES, 0)
        planned: dict[str, TinyRequest] = {}
        cohort = Cohort(())
        with shared.offered(cohort, cohort, EvaluationConfig()), workers_of(scheduler) as local:
            pool = SharedWorkers(shared, local)

            def finish(request: TinyRequest, outcome: Outcome) -> None:
                searches[request.strategy].tell(
                    request.trial, request.params, outcome.value, request.key, outcome.reason
                )
                ended[request.strategy] += 1
                rows.append(
                    {**vars(request), "params": json.dumps(request.params, sort_keys=True), "value": outcome.value}
                )

            def go_on(name: str) -> None:
                while drawn[name] < TRIALS and ended[name] >= searches[name].batch_start(drawn[name]):
                    request = TinyRequest(name, drawn[name], searches[name].suggest(drawn[name]))
                    drawn[name] += 1
                    value = result_of(folder, request.key)
                    if value is not None:
                        finish(request, Outcome(request.key, value))
                    else:
                        planned[request.key] = request
                        pool.submit(request.key, request)

            for name in STRATEGIES:
                go_on(name)
            while pool.busy:
                for outcome in pool.completed(lambda steps: None):
                    if outcome.unexpected:
                        pool.submit(outcome.key, planned[outcome.key])
                        continue
                    request = planned.pop(outcome.key)
                    finish(request, outcome)
                    go_on(request.strategy)
        rows.sort(key=lambda row: (row["strategy"], row["trial"]))
        write_csv(root / "trials.csv", rows, ("strategy", "trial", "params", "value"))


def help_out(root: Path) -> None:
    with Workers(1, run_tiny, prepare=nothing) as local:
        Taking(RunFolder(root), local, 60.0, SILENT, TinyFolder).until_the_end(600)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["leader", "worker"])
    parser.add_argument("run", type=Path)
    parser.add_argument("--storage", default="")
    parser.add_argument("--scheduler", default="")
    parser.add_argument("--witness", type=Path)
    given = parser.parse_args()
    os.environ[WITNESS] = str(given.witness or given.run)  # its processes, too
    if given.role == "leader":
        try:
            lead(given.run, given.storage or sqlite_address(given.run / "study.db"), given.scheduler)
        except StaindaError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
    else:
        help_out(given.run)
