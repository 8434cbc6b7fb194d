"""A patch classifier over a region: a window slides from cell to cell, and what it answers is a map of cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array
from stainda.prediction.reading import read_ahead
from stainda.prediction.regions import PixelRegion
from stainda.progress import SILENT, Progress

_READ_AT_ONCE = 32


@dataclass(frozen=True)
class Window:
    """How a window slides over a region.

    Attributes:
        size: pixels of the window, at the region's scale. Where ``size - cell`` is odd the window lies half a pixel
            off the cell's centre.
        cell: pixels from window to window.
        batch: windows asked about at once.
    """

    size: int
    cell: int
    batch: int


def map_size(region: PixelRegion, cell: int) -> tuple[int, int]:
    """Height and width of the map of cells; the last ones may reach beyond the region."""
    return max(1, math.ceil(region.height / cell)), max(1, math.ceil(region.width / cell))


def slide_window(
    answer: Callable[[Array], Array],
    region: PixelRegion,
    out: Array,
    window: Window,
    name: str,
    progress: Progress = SILENT,
) -> None:
    """Ask about every cell with tissue, the window centred on it, and write the answers to ``out``.

    Args:
        answer: uint8 patches ``(n, size, size, 3)`` to probabilities of the classes ``(n, classes)``.
        out: ``(classes, *map_size)``; cells without tissue stay as they are.
        name: of the slide, for the progress shown.
    """
    size, cell, batch = window.size, window.cell, window.batch
    rows, columns = out.shape[1:]
    before = (size - cell) // 2
    corners = np.arange(columns) * cell

    def shown() -> Iterator[tuple[int, int, int]]:
        """Row, first and one past the last of neighbouring cells with tissue."""
        for row in range(rows):
            top = row * cell
            boxes = np.stack([corners, np.full(columns, top), corners + cell, np.full(columns, top + cell)], 1)
            for first, last in _runs(region.seen_share(boxes) > 0, min(batch, _READ_AT_ONCE)):
                yield row, first, last

    def read(place: tuple[int, int, int]) -> Array:
        row, first, last = place
        strip = region.read(first * cell - before, row * cell - before, (last - first - 1) * cell + size, size)
        return np.stack([strip[:, at * cell : at * cell + size] for at in range(last - first)])

    done = 0
    with progress.task(f"Predicting {name}", rows) as bar:
        for (row, first, last), windows in read_ahead(shown(), read):
            bar.advance(float(row - done))
            done = row
            out[:, row, first:last] = answer(windows).T
        bar.advance(float(rows - done))


def _runs(wanted: Array, longest: int) -> Iterator[tuple[int, int]]:
    """First and one past the last of neighbouring cells, at most ``longest`` of them."""
    at = np.flatnonzero(wanted)
    breaks = np.flatnonzero(np.diff(at) > 1) + 1
    for run in np.split(at, breaks):
        for start in range(0, len(run), longest):
            part = run[start : start + longest]
            yield int(part[0]), int(part[-1]) + 1
