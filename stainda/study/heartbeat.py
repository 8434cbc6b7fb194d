"""``progress.json``: how far a run is, for other processes (``stainda status``); written whole every few seconds."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stainda.errors import StaindaError
from stainda.files import write_json
from stainda.progress import Progress, Task
from stainda.run_directory.contents import PROGRESS as PROGRESS_FILE

PROGRESS = PROGRESS_FILE.name
EVERY_SECONDS = 2.0


@dataclass(frozen=True)
class RunningJob:
    """A training in work: folder below ``jobs/``, strategy, trial and seed; ``host``: another machine it runs on."""

    job: str
    strategy: str
    trial: int
    seed: int
    host: str = ""


class RunProgress:
    """Shows progress as another one does, and writes it down next to the run.

    Args:
        root: the run directory.
        shown: what shows it.
        stages: those that this call does.
    """

    def __init__(self, root: Path, shown: Progress, stages: Sequence[str]) -> None:
        self._root, self._shown = root, shown
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._state: dict[str, Any] = {
            "pid": os.getpid(), "host": socket.gethostname(), "started": time.time(), "state": "running",
            "stage": "", "stage_started": time.time(), "rotation": "", "stages": dict.fromkeys(stages, "waiting"),
            "expected": {}, "task": None, "running": [], "reason": "", "rotations": 0, "rotations_begun": 0,
            "of_rotations": [],
        }  # fmt: skip
        self._writer = threading.Thread(target=self._write_on, daemon=True)

    def __enter__(self) -> RunProgress:
        self._write()
        self._writer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._writer.join()
        stages = self._state["stages"]
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        state = "complete" if kind is None else "interrupted" if stopped else "failed"
        for name, stage in stages.items():
            if stage == "running":
                stages[name] = "done" if kind is None else state
        self._put(state=state, reason="" if state != "failed" else str(error), task=None, running=[])
        with contextlib.suppress(OSError, StaindaError):  # the error itself is reported
            self._write()

    def begin_rotation(self, number: int, count: int) -> None:
        """Rotation ``number`` (from 1) of ``count`` begins: its stages are those that are shown, and are to come."""
        with self._lock:
            self._state["stages"].update(dict.fromkeys(self._state["of_rotations"], "waiting"))
        self._put(rotations=count, rotations_begun=number)

    def begin(self, stage: str, rotation: str = "") -> None:
        with self._lock:
            self._state["stages"][stage] = "running"
            if rotation and stage not in self._state["of_rotations"]:
                self._state["of_rotations"].append(stage)
        self._put(stage=stage, stage_started=time.time(), rotation=rotation, task=None, running=[])

    def end(self, stage: str) -> None:
        with self._lock:
            self._state["stages"][stage] = "done"

    def expect(self, seconds: Mapping[str, float]) -> None:
        """About how long each stage takes."""
        self._put(expected={name: round(value, 1) for name, value in seconds.items()})

    def running(self, jobs: Sequence[RunningJob]) -> None:
        self._put(running=[asdict(job) for job in jobs])

    @contextlib.contextmanager
    def task(self, description: str, total: float) -> Iterator[Task]:
        values = {
            "name": description,
            "done": 0.0,
            "total": float(total),
            "earlier": 0.0,
            "started": time.time(),
            "note": "",
        }
        self._put(task=values)
        with self._shown.task(description, total) as shown:
            yield _Recorded(shown, values, self._lock)
        self._put(task=None)

    def message(self, text: str) -> None:
        self._shown.message(text)

    def _put(self, **values: object) -> None:
        with self._lock:
            self._state.update(values)

    def _write_on(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            with contextlib.suppress(OSError, StaindaError):  # a full disk is reported by the work itself
                self._write()

    def _write(self) -> None:
        with self._lock:
            state = {**self._state, "updated": time.time()}
        write_json(self._root / PROGRESS, state)


class _Recorded:
    def __init__(self, shown: Task, values: dict[str, Any], lock: threading.Lock) -> None:
        self._shown, self._values, self._lock = shown, values, lock

    def advance(self, steps: float = 1.0, note: str | None = None, *, earlier: bool = False) -> None:
        self._shown.advance(steps, note, earlier=earlier)
        with self._lock:
            self._values["done"] += steps
            self._values["earlier"] += steps if earlier else 0.0
            if note is not None:
                self._values["note"] = note


def tell_rotation(progress: Progress, number: int, count: int) -> None:
    """Write down that rotation ``number`` (from 1) of ``count`` begins, where the progress is written down."""
    if isinstance(progress, RunProgress):
        progress.begin_rotation(number, count)


def tell_jobs(progress: Progress, jobs: Sequence[RunningJob]) -> None:
    """Write down which trainings are in work, where the progress is written down."""
    if isinstance(progress, RunProgress):
        progress.running(jobs)


@contextlib.contextmanager
def in_stage(progress: Progress, stage: str, rotation: str = "") -> Iterator[None]:
    """Write down that a stage begins and ends."""
    if not isinstance(progress, RunProgress):
        yield
        return
    progress.begin(stage, rotation)
    yield
    progress.end(stage)
