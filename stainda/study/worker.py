"""A further worker of a run that another process leads: takes its open trainings, where the run directory is seen."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stainda.errors import StaindaError
from stainda.pool import Outcome
from stainda.progress import SILENT, Progress
from stainda.run_directory.claims import SILENT_SECONDS
from stainda.run_directory.contents import PROGRESS, SHARED_STUDY, STUDY
from stainda.run_directory.folder import RunFolder, read_study
from stainda.study.environment import free_cores
from stainda.study.executor import Workers, workers_for
from stainda.study.other_versions import read_environment, refuse_other_versions
from stainda.study.shared_workers import POLL_SECONDS, SharedRequest, Taken, run_shared
from stainda.study.sharing import SharedFolder

logger = logging.getLogger("stainda.worker")


@dataclass
class _Leader:
    """Whether a run is led: by what its progress.json says, and whether that still changes by this process's clock."""

    root: Path
    silent: float
    now: Callable[[], float] = time.monotonic
    text: str = ""
    since: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.since = self.now()

    def has_ended(self) -> bool:
        """Whether it has come to its end, or has been silent."""
        path = PROGRESS.at(self.root)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = ""
        except OSError:  # a network file system that comes back
            text = self.text
        if text != self.text:
            self.text, self.since = text, self.now()
        state = json.loads(text).get("state") if text else "running"
        return state != "running" or self.now() - self.since > self.silent


def work_for(
    run: str | Path,
    *,
    workers: int | None = None,
    wait: float = 0.0,
    silent: float = SILENT_SECONDS,
    progress: Progress = SILENT,
) -> int:
    """Take open trainings of a run until its leader ends; returns how many were trained here.

    Args:
        run: the run directory, which a leader (``stainda run``) works in.
        workers: processes; default: as many as the free cores bear with the study's threads.
        wait: seconds to wait for a leader, where none is at work.
        silent: seconds after which a worker or a leader that gives no sign is taken for gone.

    Raises:
        StaindaError: there is no such run, or it has other versions of packages that results depend on.
    """
    folder = RunFolder(Path(run))
    give_up = time.monotonic() + wait
    while not STUDY.at(folder.root).is_file():
        if time.monotonic() >= give_up:
            read_study(folder.root)  # says what is wrong
        time.sleep(POLL_SECONDS)
    training = read_study(folder.root).training
    count = workers or workers_for(training.cores, free_cores())
    with Workers(count, run_shared, training.threads) as local:
        return Taking(folder, local, silent, progress).until_the_end(wait)


class Taking:
    """Takes open trainings for local workers; ``place`` makes the list of those of a run directory."""

    def __init__(
        self,
        folder: RunFolder,
        local: Workers,
        silent: float,
        progress: Progress,
        place: Callable[..., SharedFolder] = SharedFolder,
    ) -> None:
        self.folder, self.local, self.silent, self.progress = folder, local, silent, progress
        self.place = place
        self.taken: dict[str, SharedFolder] = {}
        self.places: dict[Path, SharedFolder] = {}
        self.refused: set[str] = set()
        self.done = 0

    def until_the_end(self, wait: float) -> int:
        leader, give_up = _Leader(self.folder.root, self.silent), time.monotonic() + wait
        while True:
            self._feed()
            if self.local.busy:
                for outcome in self.local.completed(lambda steps: None, POLL_SECONDS):
                    self._end(outcome)
            elif leader.has_ended() and not self._open() and time.monotonic() >= give_up:
                return self.done
            else:
                time.sleep(POLL_SECONDS)

    def _shared(self) -> list[SharedFolder]:
        """The run and its rotations, where trainings may be open now."""
        roots = [path.parent.parent for path in self.folder.root.glob(SHARED_STUDY.path)]
        roots += [path.parent.parent for path in self.folder.root.glob(f"rotations/*/{SHARED_STUDY.path}")]
        for root in roots:
            self.places.setdefault(root, self.place(RunFolder(root), silent=self.silent))
        return [self.places[root] for root in roots]

    def _open(self) -> list[tuple[SharedFolder, str]]:
        return [(shared, key) for shared in self._shared() for key in shared.open_keys() if key not in self.refused]

    def _feed(self) -> None:
        for shared, key in self._open():
            if len(self.taken) >= self.local.count:
                return
            if key in self.taken or not shared.claims.is_free(key):
                continue
            try:
                shared.request(key)
            except StaindaError as error:  # closed this moment, or of another version
                if shared.is_open(key):
                    self.refused.add(key)
                    self.progress.message(f"not taken: {error}")
                continue
            refuse_other_versions(self._versions, "this worker")
            self.taken[key] = shared
            self.local.submit(key, SharedRequest.of(shared, key))

    @cached_property
    def _versions(self) -> Mapping[str, Any]:
        """Of the leader's packages, when it has offered something."""
        return dict(read_environment(self.folder).get("versions", {}))

    def _end(self, outcome: Outcome) -> None:
        shared = self.taken.pop(outcome.key)
        if isinstance(outcome.value, Taken):
            return
        self.done += outcome.reason is None
        if outcome.reason is not None and not shared.has_ended(outcome.key):  # its process died: nobody else says so
            shared.end(outcome)
        self.progress.message(f"{outcome.key}: {outcome.reason or 'trained'}")
