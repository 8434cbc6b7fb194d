"""Arrays as large as a slide, kept out of memory."""

from __future__ import annotations

import mmap
import tempfile

import numpy as np

from stainda.arrays import Array

FILED_BYTES = 2**28
"""Arrays from this size on lie in a temporary file."""


def scratch(shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    """Zeros; a large array lies in a temporary file (in the folder that ``TMPDIR`` names), gone with the array."""
    if np.prod(shape, dtype=float) * np.dtype(dtype).itemsize < FILED_BYTES:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="stainda-") as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def give_back(array: Array) -> None:
    """Take the pages of an array in a file out of this process's memory; they are read again when they are needed.

    Called from band to band, so that a pass over a map holds a band of it. Nothing for other arrays.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
