"""How a process ended, in words; and a process that ends with the one that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable


def how_it_ended(code: int | None) -> str:
    """An exit code in words: a signal by its name."""
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"{name}, often out of memory" if -code == signal.SIGKILL else name
    return f"exit status {code}"


def end_with(parent: int, first: Callable[[], None] | None = None) -> None:
    """Wait until the process that started this one is gone, then end (SIGKILL of it gives no other sign).

    For a thread of its own.

    Args:
        parent: its number.
        first: is called before the end; an ``OSError`` of it is passed over.
    """
    while os.getppid() == parent:
        time.sleep(0.3)
    if first is not None:
        with contextlib.suppress(OSError):
            first()
    os._exit(1)
