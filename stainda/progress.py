"""How long work says how far it is: rooms report, the command line draws."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol


def seconds_left(done: float, total: float, spent: float, earlier: float = 0.0) -> float | None:
    """How long the rest takes at the rate so far, in seconds; ``None`` before the first step is completed, or
    where the clock was set back since the work began.

    Args:
        done: completed steps of ``total``; ``earlier`` of them were complete before, and took none of the time.
        spent: seconds since the work began.
    """
    if done >= total:
        return 0.0
    return spent * (total - done) / (done - earlier) if done > earlier and spent >= 0 else None


class Task(Protocol):
    """One bar."""

    def advance(self, steps: float = 1.0, note: str | None = None, *, earlier: bool = False) -> None:
        """Report completed steps; those of an ``earlier`` call say nothing about how long the rest takes."""
        ...


class Progress(Protocol):
    """What a room asks of whoever shows its progress."""

    def task(self, description: str, total: float) -> contextlib.AbstractContextManager[Task]: ...

    def message(self, text: str) -> None: ...


class _SilentTask:
    def advance(self, steps: float = 1.0, note: str | None = None, *, earlier: bool = False) -> None:
        pass


class Silent:
    """The default: nothing is shown."""

    @contextlib.contextmanager
    def task(self, description: str, total: float) -> Iterator[Task]:
        yield _SilentTask()

    def message(self, text: str) -> None:
        pass


SILENT: Progress = Silent()


def duration(seconds: float) -> str:
    """Seconds in words, as exactly as an estimate deserves.

    >>> duration(75), duration(600), duration(9000)
    ('75 s', '10 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
