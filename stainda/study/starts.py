"""Trainings without labels that strategies start from: once for each seed and setting, before the strategies."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.errors import StaindaError
from stainda.pool import OpenPool
from stainda.progress import Progress
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.training_tables import PRETRAININGS
from stainda.study.executor import report_step
from stainda.study.keys import SeenData

if TYPE_CHECKING:
    from stainda.training import Job
    from stainda.training.pretraining import PretrainingResult

logger = logging.getLogger("stainda.starts")


@dataclass(frozen=True)
class StartRequest:
    """What a worker needs to train one start."""

    job: Job
    store: Path
    folder: Path


def run_start(_key: str, request: StartRequest) -> PretrainingResult:
    """Train one start, or take what is there."""
    from stainda.training.pretraining import pretrain

    assert request.job.training.init is not None
    try:
        return pretrain(request.job, request.store, request.folder)
    finally:
        report_step(request.job.training.init.epochs)


@dataclass(eq=False)
class Starts:
    """The starts of a study's trainings, by key.

    Attributes:
        needed: the trainings without labels that are wanted.
    """

    folder: RunFolder
    seen: SeenData
    needed: dict[str, Job] = field(default_factory=dict)

    def of(self, job: Job) -> Job:
        """The job with the name of the start that it asks for (``training.init``)."""
        from stainda.training.pretraining import pretraining_of

        init = job.training.init
        if init is None:
            return job
        start = pretraining_of(job, self.seen.unlabelled(init.pairs, job.without))
        self.needed[start.hash] = start
        return replace(job, pretrained=start.hash)

    def train(self, jobs: Sequence[Job], pool: OpenPool, progress: Progress) -> None:
        """Train what these jobs start from and is not there yet. A failure is reported by the jobs that need it."""
        from stainda.training.pretraining import read_pretraining

        wanted = dict.fromkeys(job.pretrained for job in jobs if job.pretrained)
        missing = {key: self.needed[key] for key in wanted if read_pretraining(self.folder.pretraining(key)) is None}
        if not missing:
            return
        epochs = sum(start.training.init.epochs for start in missing.values() if start.training.init)
        with (
            pool(run_start) as workers,
            progress.task(f"Training {len(missing)} starts without labels", epochs) as bar,
        ):
            for key, job in missing.items():
                workers.submit(key, StartRequest(job, self.folder.patches, self.folder.pretraining(key)))
            while workers.busy:
                for outcome in workers.completed(bar.advance):
                    if outcome.reason is not None:
                        logger.warning("start %s failed: %s", outcome.key, outcome.reason)

    def write(self, trainings: Sequence[Mapping[str, Any]]) -> None:
        """Write ``pretraining.csv``: of every start the strategies whose trainings have it, cost and measures.

        Args:
            trainings: rows of ``trials.csv``.
        """
        from stainda.training import Job

        users: dict[str, list[str]] = {}
        for row in trainings:
            try:
                key = Job.load(self.folder.job(str(row["job"]))).pretrained
            except StaindaError:  # it failed before it wrote its settings; trials.csv has the reason
                continue
            if key and row["strategy"] not in users.setdefault(key, []):
                users[key].append(str(row["strategy"]))
        rows = [made_row for key, names in users.items() if (made_row := self._row(key, names)) is not None]
        if rows:
            PRETRAININGS.write(self.folder.root, rows)
        else:
            PRETRAININGS.at(self.folder.root).unlink(missing_ok=True)

    def _row(self, key: str, strategies: Sequence[str]) -> dict[str, Any] | None:
        from stainda.training.pretraining import read_pretraining

        result, job = read_pretraining(self.folder.pretraining(key)), self.needed.get(key)
        if result is None or job is None or job.training.init is None:
            return None
        row: dict[str, Any] = {
            "key": key, "name": job.training.init.name, "pairs": job.training.init.pairs, "seed": job.seed,
            "strategies": ";".join(strategies), "patches": result.patches, "pairs_used": result.pairs_used,
            "pairs_left_out": result.pairs_left_out, "steps": result.steps, "loss_first": result.loss_first,
            "loss_last": result.loss_last, "retrieval_chance": _known(result.after["chance"]),
            "measured_on": result.after["measured_on"], "seconds": result.seconds, "cpu_seconds": result.cpu_seconds,
        }  # fmt: skip
        for name in ("retrieval", "alignment", "uniformity", "probe"):
            row |= {f"{name}_before": _known(result.before[name]), f"{name}_after": _known(result.after[name])}
        return row


def _known(value: Any) -> float | None:
    return None if value is None or value != value else round(float(value), 4)
