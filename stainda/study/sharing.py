"""Open trainings of a run that any worker may take: files in the run directory, which the leader writes and removes.

The leader (``stainda run``) draws trials, keeps ``study.db`` and counts the budget. Of each training that is to be done
it writes ``shared/open/JOB.json``. Its own workers and those of ``stainda worker`` take trainings from there by a claim
(:mod:`stainda.study.claims`), and leave ``shared/ended/JOB.json`` before they release it. The leader then removes the
open training first and its end second, so that whoever finds no end and an open training under its claim knows that
nobody has done it. The files are JSON, validated when they are read; nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from stainda.cohort import Cohort, Section
from stainda.config import EvaluationConfig
from stainda.config.load import validated
from stainda.errors import StaindaError, UnexpectedError
from stainda.files import write_json
from stainda.run_directory.contents import SHARED_CLAIM, SHARED_ENDED, SHARED_OPEN, SHARED_STUDY
from stainda.run_directory.folder import RunFolder
from stainda.study.claims import EVERY_SECONDS, SILENT_SECONDS, Claims
from stainda.study.executor import Outcome
from stainda.study.jobs import JobRequest, JobResult, earlier_result, run_job
from stainda.study.pruning import EarlierTrial, Pruning

POLL_SECONDS = 0.5


class SharedFolder:
    """The folder of open trainings of a run, or of one of its rotations.

    Args:
        folder: the run directory. every, silent: see :class:`~stainda.study.claims.Claims`.
    """

    def __init__(self, folder: RunFolder, every: float = EVERY_SECONDS, silent: float = SILENT_SECONDS) -> None:
        self.folder = folder
        self.claims = Claims(SHARED_CLAIM.at(folder.root, claim="x").parent, every, silent)

    def prepare(self, scored: Cohort, tested: Cohort, evaluation: EvaluationConfig) -> None:
        """Begin: what an earlier leader left open is closed, and what its workers have claimed stays claimed."""
        for kind in (SHARED_OPEN, SHARED_ENDED):
            shutil.rmtree(kind.at(self.folder.root, job="x").parent, ignore_errors=True)
        write_json(
            SHARED_STUDY.at(self.folder.root),
            {
                "scored": [_plain(section) for section in scored],
                "tested": [section.slide for section in tested],
                "domain_keys": list(scored.domain_keys),
                "evaluation": evaluation.model_dump(mode="json"),
            },
        )

    @contextlib.contextmanager
    def offered(self, scored: Cohort, tested: Cohort, evaluation: EvaluationConfig) -> Iterator[None]:
        """Offer trainings while the block runs; after an error or Ctrl-C nothing more, and claims stay."""
        self.prepare(scored, tested, evaluation)
        try:
            yield
        except BaseException:
            self.stop()
            raise
        self.close()

    def stop(self) -> None:
        """Offer nothing more; trainings that other processes have stay theirs, and those of dead ones are free."""
        shutil.rmtree(SHARED_OPEN.at(self.folder.root, job="x").parent, ignore_errors=True)
        self.claims.remove_gone()

    def close(self) -> None:
        """End: nobody finds anything to do here any more."""
        shutil.rmtree(SHARED_STUDY.at(self.folder.root).parent, ignore_errors=True)

    # a training ----------------------------------------------------------------------------------------------------

    def open(self, key: str, request: JobRequest) -> None:
        SHARED_ENDED.at(self.folder.root, job=key).unlink(missing_ok=True)
        write_json(SHARED_OPEN.at(self.folder.root, job=key), _ticket(request))

    def remove(self, key: str) -> None:
        """Take a training that has ended off the list; in this order, see the module."""
        SHARED_OPEN.at(self.folder.root, job=key).unlink(missing_ok=True)
        SHARED_ENDED.at(self.folder.root, job=key).unlink(missing_ok=True)

    def is_open(self, key: str) -> bool:
        """Whether a training is still to be done; to be asked under a claim."""
        return not self.has_ended(key) and SHARED_OPEN.at(self.folder.root, job=key).is_file()

    def open_keys(self) -> list[str]:
        """Open trainings that have not ended, oldest first."""
        paths = []
        for path in SHARED_OPEN.at(self.folder.root, job="x").parent.glob("*.json"):
            try:
                paths.append((path.stat().st_mtime_ns, path.name.removesuffix(".json")))
            except FileNotFoundError:  # it ended this moment
                continue
        return [key for _, key in sorted(paths) if not self.has_ended(key)]

    def has_ended(self, key: str) -> bool:
        return SHARED_ENDED.at(self.folder.root, job=key).is_file()

    def end(self, outcome: Outcome) -> None:
        """Say how a training ended; its result lies in its own folder."""
        values = {"reason": outcome.reason, "unexpected": outcome.unexpected}
        write_json(SHARED_ENDED.at(self.folder.root, job=outcome.key), values)

    def ended(self, key: str, request: JobRequest) -> Outcome | None:
        """How a training ended; ``None`` where it has not, or its result cannot be seen yet."""
        path = SHARED_ENDED.at(self.folder.root, job=key)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if values["reason"] is not None:
            return Outcome(key, reason=str(values["reason"]), unexpected=bool(values["unexpected"]))
        result = earlier_result(self.folder.job(key), request.scoring, request.pruning)
        return None if result is None else Outcome(key, result)

    def steps(self, request: JobRequest) -> float:
        """By how much a training that ended elsewhere moves the progress on."""
        return request.job.training.epochs

    def request(self, key: str) -> JobRequest:
        """An open training.

        Raises:
            StaindaError: it is closed, or this stainda would train something else under this name.
        """
        from stainda.training import Job

        path = SHARED_OPEN.at(self.folder.root, job=key)
        study, ticket = _read(SHARED_STUDY.at(self.folder.root)), _read(path)
        job = Job.from_settings(ticket["job"], path)
        if job.hash != key:
            raise StaindaError(
                f"these settings make the training {job.hash} here, not {key}",
                file=path,
                remedy="Use the same version of stainda, and the same weights, as the run's leader",
            )
        sections = tuple(_section(values) for values in study["scored"])
        if ticket["tested"]:
            sections = tuple(section for section in sections if section.slide in study["tested"])
        return JobRequest(
            self.folder, job, self.folder.patches, Cohort(sections, tuple(study["domain_keys"])),
            validated(EvaluationConfig, study["evaluation"], path), ticket["scoring"],
            None if ticket["pruning"] is None else _pruning(ticket["pruning"]),
            None if ticket["pretraining"] is None else Job.from_settings(ticket["pretraining"], path),
        )  # fmt: skip


@dataclass(frozen=True)
class SharedRequest:
    """What a worker process needs of an open training: where it lies, and how claims are kept there."""

    folder: RunFolder
    every: float
    silent: float


class Taken:
    """The result of a training that another worker has, or that nobody needs any more."""


def run_shared(key: str, given: SharedRequest) -> JobResult | Taken:
    """Claim an open training, run it, and say how it ended.

    Raises:
        StaindaError: as of :func:`~stainda.study.jobs.run_job`.
    """
    return run_claimed(key, given, lambda shared: run_job(key, shared.request(key)))


def run_claimed(key: str, given: SharedRequest, work: Callable[[SharedFolder], Any]) -> Any:
    """Do ``work`` under a claim, and say how it ended before the claim is released."""
    shared = SharedFolder(given.folder, given.every, given.silent)
    claim = shared.claims.take(key)
    if claim is None:
        return Taken()
    with claim.kept(lost=lambda: os._exit(1)):  # another worker does it by now; two must not write one folder
        if not shared.is_open(key):
            return Taken()
        try:
            value = work(shared)
        except StaindaError as error:
            shared.end(Outcome(key, reason=str(error), unexpected=isinstance(error, UnexpectedError)))
            raise
        shared.end(Outcome(key))
    return value


class LocalWorkers(Protocol):
    """What runs trainings for the leader: processes of this machine, or a Dask cluster."""

    @property
    def count(self) -> int: ...
    @property
    def busy(self) -> bool: ...
    @property
    def running(self) -> list[str]: ...
    @property
    def waiting(self) -> bool: ...
    def submit(self, key: str, payload: object) -> None: ...
    def completed(self, advance: Callable[[float], None], seconds: float | None = None) -> list[Outcome]: ...


class SharedWorkers:
    """The leader's workers, next to those of other processes and machines; has the methods of ``Workers``.

    Args:
        shared: the folder of open trainings. local: this process's own workers, of :func:`run_shared`.
    """

    def __init__(self, shared: SharedFolder, local: LocalWorkers) -> None:
        self.shared, self._local = shared, local
        self._open: dict[str, JobRequest] = {}
        self._given = SharedRequest(shared.folder, shared.claims.every, shared.claims.silent)

    @property
    def busy(self) -> bool:
        return bool(self._open)

    @property
    def running(self) -> list[str]:
        """Keys of the jobs in work, here or elsewhere."""
        mine = set(self._local.running)
        return [key for key in self._open if key in mine or self.shared.claims.last(key)]

    def submit(self, key: str, request: JobRequest) -> None:
        self._open[key] = request
        self.shared.open(key, request)
        self._feed()

    def completed(self, advance: Callable[[float], None]) -> list[Outcome]:
        """Wait until at least one job has ended, here or elsewhere; return those that have."""
        while self._open:
            self._feed()
            if self._local.busy:
                outcomes = self._local.completed(advance, POLL_SECONDS)
            else:
                time.sleep(POLL_SECONDS)
                outcomes = []
            outcomes = [outcome for outcome in outcomes if not isinstance(outcome.value, Taken)]
            outcomes += self._elsewhere({outcome.key for outcome in outcomes}, advance)
            for outcome in outcomes:
                del self._open[outcome.key]
                self.shared.remove(outcome.key)
            if outcomes:
                return outcomes
        return []

    def _elsewhere(self, known: set[str], advance: Callable[[float], None]) -> list[Outcome]:
        mine = known | set(self._local.running)
        outcomes = []
        for key, request in self._open.items():
            if key not in mine and (outcome := self.shared.ended(key, request)) is not None:
                advance(self.shared.steps(request))
                outcomes.append(outcome)
        return outcomes

    def _feed(self) -> None:
        """Give trainings that nobody has to the local workers that are free."""
        running = set(self._local.running)
        for key in self._open:
            if len(running) >= self._local.count or self._local.waiting:
                return
            if key not in running and not self.shared.has_ended(key) and self.shared.claims.is_free(key):
                self._local.submit(key, self._given)
                running.add(key)


def _ticket(request: JobRequest) -> dict[str, Any]:
    start = request.pretraining
    return {
        "job": request.job.settings(),
        "scoring": request.scoring,
        "tested": bool(request.job.repeats),
        "pruning": None if request.pruning is None else asdict(request.pruning),
        "pretraining": None if start is None else start.settings(),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StaindaError(
            f"this list of open trainings cannot be read ({error})", file=path, remedy="Its leader may have ended"
        ) from error


def _plain(section: Section) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(section).items()}


def _section(values: dict[str, Any]) -> Section:
    paths = {name: None if values[name] is None else Path(values[name]) for name in ("annotations", "landmarks")}
    more = tuple(Path(path) for path in values["more_annotations"])
    return Section(**{**values, **paths, "path": Path(values["path"]), "more_annotations": more})


def _pruning(values: dict[str, Any]) -> Pruning:
    """Keys of scores by epoch are numbers, which JSON has as text."""
    earlier = tuple(
        EarlierTrial(
            trial["index"], trial["state"], trial["value"],
            {int(epoch): score for epoch, score in trial["curve"].items()},
            {int(epoch): scores for epoch, scores in trial["patients"].items()},
        )
        for trial in values["earlier"]
    )  # fmt: skip
    return Pruning(**{**values, "earlier": earlier})
