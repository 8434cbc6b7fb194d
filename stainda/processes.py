"""Processes of our own: how they are started, how they ended, and that they end with the one that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

VISIBLE_GPUS = "STAINDA_GPUS"
"""Environment variable of a worker that sees one GPU: all that there are for the workers of its machine."""


def how_it_ended(code: int | None) -> str:
    """An exit code in words: a signal by its name."""
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"{name}, often out of memory" if -code == signal.SIGKILL else name
    return f"exit status {code}"


def command_of(module: str) -> tuple[str, ...]:
    """A command that calls ``main`` of a module of this stainda; further words are its arguments.

    As ``python -m``, but nothing is imported from the folder that it is called in: a ``numpy.py`` among somebody's
    slides would run there.
    """
    root = str(Path(__file__).parents[1])
    here = "('', os.getcwd())"  # also what an empty entry of PYTHONPATH stands for
    path = f"import os, sys; sys.path[:] = [*(entry for entry in sys.path if entry not in {here}), {root!r}]"
    return sys.executable, "-c", f"{path}; from {module} import main; main()"


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
