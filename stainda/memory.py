"""Memory that one batch leaves is kept for the next, instead of going back to the system in between.

The C library of Linux (glibc) maps every large array anew and unmaps it when it is freed, so each batch pays for
clearing the same pages again: a quarter of a training step of the small U-Net at 256 pixels, and most of turning bytes
into floats. Numbers do not change.
"""

from __future__ import annotations

import ctypes
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

KEPT_BYTES = 512 << 20
"""Freed memory above this goes back to the system, if it lies at the end of the heap."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt, malloc.h
_LARGEST_THRESHOLD = 32 << 20  # what glibc allows, and what its own rule comes to after a large array was freed
_lock = threading.Lock()
_users = 0
_for_good: list[Any] = []


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in this block, in all threads; blocks may lie within and side by side.

    Elsewhere than on glibc nothing is done.
    """
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _set(most_mapped=0, trimmed_above=KEPT_BYTES)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _set(most_mapped=65536, trimmed_above=2 * _LARGEST_THRESHOLD)
                if (library := _glibc()) is not None:
                    library.malloc_trim(0)


def keep_freed_memory() -> None:
    """As :func:`freed_memory_kept`, for as long as this process lives: a worker does nothing else."""
    block = freed_memory_kept()
    block.__enter__()
    _for_good.append(block)  # one that is forgotten ends


def _set(most_mapped: int, trimmed_above: int) -> None:
    library = _glibc()
    if library is None:
        return
    library.mallopt(_MMAP_MAX, most_mapped)
    library.mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
    library.mallopt(_TRIM_THRESHOLD, trimmed_above)


def peak_mib(proc: Path = Path("/proc")) -> float:
    """The largest resident set of this process since it was started, MiB; 0 where the system does not tell (Windows).

    Linux counts in ``ru_maxrss`` of a process also what the process that started it held, up to when its own program
    begins: a small process of a large one seems to have been large. ``VmHWM`` (proc(5)) is its own alone.
    """
    if (mark := _high_water(proc / "self")) is not None:
        return mark
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def set_peak_back(proc: Path = Path("/proc")) -> bool:
    """Let :func:`peak_mib` count from now on; whether the system allows it (Linux, where /proc can be written)."""
    try:
        (proc / "self" / "clear_refs").write_text("5\n", encoding="ascii")
    except OSError:
        return False
    return _high_water(proc / "self") is not None


def _high_water(own: Path) -> float | None:
    try:
        status = (own / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return None
    match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) / 1024 if match else None


@cache
def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None
