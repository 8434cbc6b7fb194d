"""Memory that one batch leaves is kept for the next, instead of going back to the system in between.

The C library of Linux (glibc) maps every large array anew and unmaps it when it is freed, so each batch pays for
clearing the same pages again: a quarter of a training step of the small U-Net at 256 pixels, and most of turning bytes
into floats. Numbers do not change.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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


@cache
def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None
