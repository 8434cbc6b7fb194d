"""Jobs side by side, as a stage sees them: whoever does them is a pool, processes of this machine or a cluster."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from stainda.errors import UnexpectedError

POLL_SECONDS = 0.5

logger = logging.getLogger("stainda.pool")


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Attributes:
        value, reason: what it returned, or why it failed.
        unexpected: the reason may be gone when it is tried again.
        error: what it raised, where it lived to raise something.
    """

    key: str
    value: Any = None
    reason: str | None = None
    unexpected: bool = False
    error: BaseException | None = None

    @property
    def died(self) -> bool:
        """Whether its process ended before it."""
        return self.reason is not None and self.error is None

    def result(self) -> Any:
        """What the job returned.

        Raises:
            UnexpectedError: its process died. Any error of the job itself comes as it is.
        """
        if self.error is not None:
            raise self.error
        if self.died:
            raise UnexpectedError(f"{self.key}: {self.reason}")
        return self.value


class WorkerPool(Protocol):
    """Workers that do jobs by one function ``(key, payload) -> value``."""

    @property
    def count(self) -> int:
        """Jobs side by side."""
        ...

    @property
    def busy(self) -> bool:
        """Whether any job that was submitted has not ended."""
        ...

    @property
    def running(self) -> list[str]:
        """Keys of the jobs in work."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether a further job would wait for a worker."""
        ...

    def submit(self, key: str, payload: object, alone: bool = False) -> None:
        """Start a job when a worker is free; ``alone``: when no other job runs on its machine."""
        ...

    def completed(self, advance: Callable[[float], None], seconds: float | None = None) -> list[Outcome]:
        """Wait until at least one job has ended, or for about so many seconds; report the steps of jobs meanwhile."""
        ...


OpenPool = Callable[[Callable[[str, Any], Any]], AbstractContextManager[WorkerPool]]
"""Makes a pool that does jobs by a function, which has to be one of a module."""


def outcomes(pool: WorkerPool, jobs: Mapping[str, Any], *, retries: int = 1) -> Iterator[Outcome]:
    """Do all jobs, and say of each how it ended, in the order in which they end.

    One that ended by what may pass (a dead process, no memory, a full disk) is tried again. A pool is given no more
    jobs than it has workers for: payloads do not pile up where they wait.

    Args:
        jobs: payloads by key.
        retries: how often a job is tried again.
    """
    left, tries = deque(jobs), Counter[str]()
    while left or pool.busy:
        while left and not pool.waiting:
            key = left.popleft()
            pool.submit(key, jobs[key])
        for outcome in pool.completed(lambda steps: None, POLL_SECONDS):
            if outcome.unexpected and tries[outcome.key] < retries:
                tries[outcome.key] += 1
                logger.warning("%s is tried again: %s", outcome.key, outcome.reason)
                pool.submit(outcome.key, jobs[outcome.key], alone=True)
            else:
                yield outcome
