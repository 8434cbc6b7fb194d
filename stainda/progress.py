"""How long work says how far it is: rooms report, the command line draws."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, steps: float = 1.0, note: str | None = None) -> None: ...


class Progress(Protocol):
    """What a room asks of whoever shows its progress."""

    def task(self, description: str, total: float) -> contextlib.AbstractContextManager[Task]: ...

    def message(self, text: str) -> None: ...


class _SilentTask:
    def advance(self, steps: float = 1.0, note: str | None = None) -> None:
        pass


class Silent:
    """The default: nothing is shown."""

    @contextlib.contextmanager
    def task(self, description: str, total: float) -> Iterator[Task]:
        yield _SilentTask()

    def message(self, text: str) -> None:
        pass


SILENT: Progress = Silent()
