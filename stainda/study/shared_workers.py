"""Workers of a run with open trainings: they claim a training, and say how it ended before they release it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stainda.errors import StaindaError, UnexpectedError
from stainda.pool import Outcome, WorkerPool
from stainda.run_directory.claims import GivenUp
from stainda.run_directory.folder import RunFolder
from stainda.study.attempts import deaths
from stainda.study.job_request import JobRequest, JobResult
from stainda.study.jobs import run_job
from stainda.study.sharing import SharedFolder

POLL_SECONDS, LOOK_SECONDS = 0.5, 5.0


@dataclass(frozen=True)
class SharedRequest:
    """What a worker process needs of an open training: where it lies, and how claims are kept there.

    ``given_up``: the claim on it that the process that sends it has seen silent for too long; a worker process is new
    to it, and would have to wait as long again.
    """

    folder: RunFolder
    every: float
    silent: float
    given_up: GivenUp | None = None

    @classmethod
    def of(cls, shared: SharedFolder, key: str) -> SharedRequest:
        """Of a training that ``shared`` takes for free."""
        return cls(shared.folder, shared.claims.every, shared.claims.silent, shared.claims.given_up(key))


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
    claim = shared.claims.take(key, given.given_up)
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


class SharedWorkers:
    """The leader's workers, next to those of other processes and machines; has the methods of ``Workers``.

    Args:
        shared: the folder of open trainings. local: this process's own workers, of :func:`run_shared`.
    """

    def __init__(self, shared: SharedFolder, local: WorkerPool) -> None:
        self.shared, self._local = shared, local
        self._open: dict[str, JobRequest] = {}

    @property
    def busy(self) -> bool:
        return bool(self._open)

    @property
    def running(self) -> list[str]:
        """Keys of the jobs in work, here or elsewhere."""
        mine = set(self._local.running)
        return [key for key in self._open if key in mine or self.shared.claims.last(key)]

    def host(self, key: str) -> str:
        """The machine that a job in work runs on, where that is another one; empty: this one, or not known."""
        holder, _ = self.shared.claims.latest(key)
        return "" if holder is None or holder.is_here else holder.host

    def submit(self, key: str, request: JobRequest) -> None:
        self._open[key] = request
        self.shared.open(key, request)
        self._feed()

    def completed(self, advance: Callable[[float], None], seconds: float = float("inf")) -> list[Outcome]:
        """Wait until at least one job has ended, here or elsewhere; return those that have, or nothing after about
        ``seconds``."""
        until = time.monotonic() + seconds
        while self._open and time.monotonic() < until:
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
                self._local.submit(
                    key, SharedRequest.of(self.shared, key), alone=deaths(self.shared.folder.job(key)) > 0
                )
                running.add(key)
