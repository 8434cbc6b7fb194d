"""How far a run is, from its files alone: also while another process, or none, is working on it."""

from __future__ import annotations

import csv
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stainda.errors import RecordError, StaindaError
from stainda.files import load_json
from stainda.progress import seconds_left
from stainda.run_directory.contents import REPORT, STORE_META, STUDY
from stainda.run_directory.folder import STAGES, check_version
from stainda.run_directory.result_tables import RESULTS, ROTATIONS
from stainda.run_directory.tables import COHORT, PROPAGATION, QUALITY, SLIDES
from stainda.run_directory.training_tables import BUDGET, LEFT_OUT, REFITS, TRAINING, TRIALS
from stainda.study.heartbeat import PROGRESS

SILENT_SECONDS = 60.0
"""A run on another machine that has written nothing for so long is taken for ended."""

_SHARED = ("cohort", "register")
"""Stages that a study of rotations does once for all of them."""

_LEFT_BY = {
    "cohort": COHORT, "register": QUALITY, "propagate": PROPAGATION,
    "patches": STORE_META, "train": TRIALS, "evaluate": RESULTS, "report": REPORT,
}  # fmt: skip


@dataclass(frozen=True)
class JobStatus:
    """One training. ``state``: ``done``, ``failed``, ``pruned`` or ``running``; ``epochs`` as far as it is, and the
    ``host`` where it is trained, if that is another machine than the leader's."""

    strategy: str
    seed: int
    trial: int
    job: str
    state: str
    rotation: str = ""
    reason: str = ""
    epochs: int | None = None
    host: str = ""


@dataclass(frozen=True)
class Status:
    """A run directory.

    Attributes:
        state: ``running``, ``complete``, ``failed``, ``interrupted``, ``stopped`` (its process is gone) or ``unknown``
            (made by an earlier version).
        stages: ``done``, ``running``, ``waiting`` or ``missing`` by stage.
        jobs: trainings that have begun. waiting: those of the budget that have not.
        seconds_left: about; ``None`` where it is not known.
        left_out: slides that cannot be read, and why.
        rotations: how many there are, and how many have begun; the stages are those of the last one that has. Both 0
            where the study has none, and while none has begun.
        per_hour: what the task at work has done in an hour so far (epochs, sections, slides); ``None``: nothing yet.
    """

    folder: str
    study: str
    state: str
    stage: str
    rotation: str
    reason: str
    task: str
    share: float | None
    stages: dict[str, str]
    jobs: tuple[JobStatus, ...]
    waiting: int
    seconds_left: float | None
    updated: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    per_hour: float | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    rotations: tuple[int, int] = (0, 0)


def read_status(folder: str | Path) -> Status:
    """Read how far a run is; nothing is locked, written or loaded, so that a run in work is not disturbed.

    Raises:
        StaindaError: ``folder`` is no run directory, or one of a newer version, or its files are damaged.
    """
    root = Path(folder)
    if not STUDY.at(root).is_file() and not (root / PROGRESS).is_file():
        raise StaindaError(
            "this is not a run directory (it has no study.yaml)", file=root, remedy="Name the folder 'stainda run' made"
        )
    check_version(root)
    try:
        return _status_of(root)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        raise RecordError(
            f"{PROGRESS} or a table next to it is damaged ({type(error).__name__}: {error})",
            file=root,
            remedy="Run the same command again: it writes them anew",
        ) from error


def _status_of(root: Path) -> Status:
    reported = _read_progress(root)
    state = _state(reported)
    ended = list(_ended(root))
    running = [
        JobStatus(
            job["strategy"], job["seed"], job["trial"], job["job"], "running", reported.get("rotation", ""),
            epochs=_epochs(_folder_of(root, reported.get("rotation", "")) / "jobs" / job["job"]),
            host=job.get("host", ""),
        )
        for job in reported.get("running", ())
    ] if state == "running" else []  # fmt: skip
    known = {_purpose(training) for training in running}
    jobs = (*running, *(training for training in ended if _purpose(training) not in known))
    counts = {name: sum(job.state == name for job in jobs) for name in ("done", "running", "failed", "pruned")}
    slides = SLIDES.rows(root) if SLIDES.at(root).is_file() else []
    task = reported.get("task") if state == "running" else None
    return Status(
        str(root), _study(root), state,
        reported.get("stage", ""), reported.get("rotation", ""), reported.get("reason", ""),
        "" if task is None else " ".join(filter(None, (task["name"], task["note"]))), _share(task),
        {stage: _stage(root, stage, reported, state) for stage in STAGES}, jobs, max(0, _budget(root) - len(jobs)),
        _seconds_left(reported) if state == "running" else None, reported.get("updated"), counts, _per_hour(task),
        {row["slide"]: row["reason"] for row in slides if row["state"] == "left out"}, _rotations(reported),
    )  # fmt: skip


def _purpose(status: JobStatus) -> tuple[str, str, int, int, str]:
    """A trial and seed may have further trainings, without a patient or again from all: other jobs."""
    return status.rotation, status.strategy, status.trial, status.seed, status.job


def _read_progress(root: Path) -> dict[str, Any]:
    path = root / PROGRESS
    return dict(load_json(path)) if path.is_file() else {}


def _state(reported: dict[str, Any]) -> str:
    state = str(reported.get("state", "unknown"))
    if state != "running":
        return state
    if reported["host"] == socket.gethostname():
        return "running" if _is_alive(int(reported["pid"])) else "stopped"
    return "running" if time.time() - reported["updated"] < SILENT_SECONDS else "stopped"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _stage(root: Path, stage: str, reported: dict[str, Any], state: str) -> str:
    noted = reported.get("stages", {}).get(stage)
    if noted in ("done", "running", "failed", "interrupted"):
        return "interrupted" if noted == "running" and state == "stopped" else str(noted)
    if noted == "waiting" and state == "running":
        return "waiting"
    return "done" if _LEFT_BY[stage].at(root).is_file() and noted is None else "missing"


def _ended(root: Path) -> Iterator[JobStatus]:
    """Trainings that have ended, from ``trials.csv`` of the run, or of each of its rotations."""
    states = {"complete": "done", "failed": "failed", "pruned": "pruned"}
    places = [("", root)]
    if ROTATIONS.at(root).is_file():
        with ROTATIONS.at(root).open(newline="", encoding="utf-8") as stream:
            places = [(row["rotation"], root / row["folder"]) for row in csv.DictReader(stream) if row.get("folder")]
    elif (root / "rotations").is_dir():  # the first rotation has not ended
        places = [(folder.name, folder) for folder in sorted((root / "rotations").iterdir())]
    for rotation, folder in places:
        tables = [table.at(folder) for table in (TRIALS, LEFT_OUT, REFITS) if table.at(folder).is_file()]
        for table in tables:
            with table.open(newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            for row in rows:
                yield JobStatus(
                    row["strategy"], int(row["seed"]), int(row["trial"]), row["job"],
                    states.get(row["state"], row["state"]), rotation, row.get("reason") or "",
                )  # fmt: skip


def _folder_of(root: Path, rotation: str) -> Path:
    from stainda.names import file_name

    return root / "rotations" / file_name(rotation) if rotation else root


def _epochs(folder: Path) -> int | None:
    path = TRAINING.inside(folder)
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        return sum(1 for _ in csv.DictReader(stream))


def _budget(root: Path) -> int:
    path = BUDGET.at(root)
    if not path.is_file():
        return 0
    with path.open(newline="", encoding="utf-8") as stream:
        return sum(int(row["jobs"]) for row in csv.DictReader(stream))


def _share(task: dict[str, Any] | None) -> float | None:
    return min(1.0, task["done"] / task["total"]) if task and task["total"] else None


def _per_hour(task: dict[str, Any] | None) -> float | None:
    """Without what earlier calls had done."""
    done, seconds = (
        (0.0, 0.0) if task is None else (task["done"] - task.get("earlier", 0.0), time.time() - task["started"])
    )
    return done * 3600 / seconds if done > 0 and seconds > 0 else None


def _rotations(reported: dict[str, Any]) -> tuple[int, int]:
    return int(reported.get("rotations", 0)), int(reported.get("rotations_begun", 0))


def _seconds_left(reported: dict[str, Any]) -> float | None:
    """Of the task by its speed so far, of the stages after it as they were expected at the start, and of the rotations
    after this one, whose trainings are taken to last as long as its own."""
    task, now, stage = reported.get("task"), time.time(), reported["stage"]
    rotations, begun = _rotations(reported)
    expected = reported.get("expected", {})
    if begun:  # what is expected of a stage is that of all rotations together
        expected = {name: 0.0 if name in _SHARED else value / rotations for name, value in expected.items()}
    spent = max(0.0, now - reported["stage_started"])
    left = task and seconds_left(task["done"], task["total"], now - task["started"], task.get("earlier", 0.0))
    if left is None and stage in expected:
        left = max(0.0, expected[stage] - spent)
    if left is None:
        return None
    later = [name for name, state in reported["stages"].items() if state == "waiting"]
    of_one = {**expected, stage: spent + left} if stage == "train" else expected
    return float(
        left
        + sum(expected.get(name, 0.0) for name in later)
        + (rotations - begun if begun else 0) * sum(of_one.values())
    )


def _study(root: Path) -> str:
    """The study's name, without loading the study: the first lines say it."""
    path = STUDY.at(root)
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("study:"):
                return line.partition(":")[2].strip().strip("'\"")
    return root.name
