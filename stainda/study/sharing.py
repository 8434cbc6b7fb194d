"""Open trainings of a run that any worker may take: files in the run directory, which the leader writes and removes.

The leader (``stainda run``) draws trials, keeps ``study.db`` and counts the budget. Of each training that is to be done
it writes ``shared/open/JOB.json``. Its own workers and those of ``stainda worker`` take trainings from there by a claim
(:mod:`stainda.run_directory.claims`), and leave ``shared/ended/JOB.json`` before they release it. The leader then
removes the open training first and its end second, so that whoever finds no end and an open training under its claim
knows that nobody has done it. The files are JSON, validated when they are read; nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stainda.cohort import Cohort, Section
from stainda.config import EvaluationConfig
from stainda.config.load import validated
from stainda.errors import StaindaError
from stainda.files import exists_unseen, load_json, write_json
from stainda.pool import Outcome
from stainda.run_directory.claims import EVERY_SECONDS, SILENT_SECONDS, Claims
from stainda.run_directory.contents import DONE, SHARED_CLAIM, SHARED_ENDED, SHARED_OPEN, SHARED_STUDY
from stainda.run_directory.folder import RunFolder
from stainda.study.job_request import JobRequest
from stainda.study.jobs import earlier_result
from stainda.study.pruning import EarlierTrial, Pruning


class SharedFolder:
    """The folder of open trainings of a run, or of one of its rotations.

    Args:
        folder: the run directory. every, silent: see :class:`~stainda.run_directory.claims.Claims`.
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
        """Whether a training is still to be done; to be asked under a claim.

        What another machine has written is asked of the file system's server: its end, or its scores from under an
        earlier leader, may not be seen here for a minute (:func:`~stainda.files.exists_unseen`), and until they are the
        training counts as closed here.
        """
        if self.has_ended(key) or exists_unseen(SHARED_ENDED.at(self.folder.root, job=key)):
            return False
        try:
            SHARED_OPEN.at(self.folder.root, job=key).read_bytes()  # a name may be remembered, contents are not
        except OSError:
            return False
        return not exists_unseen(DONE.inside(self.folder.job(key)))

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
        try:
            return SHARED_ENDED.at(self.folder.root, job=key).stat().st_size > 0
        except OSError:
            return False

    def end(self, outcome: Outcome) -> None:
        """Say how a training ended; its result lies in its own folder."""
        values = {"reason": outcome.reason, "unexpected": outcome.unexpected}
        write_json(SHARED_ENDED.at(self.folder.root, job=outcome.key), values)

    def ended(self, key: str, request: JobRequest) -> Outcome | None:
        """How a training ended; ``None`` where it has not, or its result cannot be seen yet."""
        if not self.has_ended(key):
            return None
        try:
            values = load_json(SHARED_ENDED.at(self.folder.root, job=key))
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
            ticket["log_to"],
            ticket["mlflow_uri"],
        )  # fmt: skip


def _ticket(request: JobRequest) -> dict[str, Any]:
    start = request.pretraining
    return {
        "job": request.job.settings(),
        "scoring": request.scoring,
        "tested": bool(request.job.repeats),
        "pruning": None if request.pruning is None else asdict(request.pruning),
        "pretraining": None if start is None else start.settings(),
        "log_to": request.log_to,
        "mlflow_uri": request.mlflow_uri,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(load_json(path))
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
