"""Cells and window shifted together on a torus, counted for many shifts without moving a raster.

A shift is a look-up: the raster lies twice next to and below itself, so that the square a shifted one comes to is at a
fixed distance in memory. The area that a shifted window shares with the window is counted on the squares of the window,
or on those outside it where they are fewer. How much of the window each shift leaves is read from one Fourier
transform. All of it counts whole squares: nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TRIES = 20
"""Shifts drawn for each that is wanted, at the most."""


@dataclass(frozen=True, eq=False)
class Torus:
    """A raster of patterns, on which cells and window are shifted.

    Attributes:
        pattern: (rows, columns) from 0 to ``number`` - 1; -1 outside the window.
        least: share of the window that must remain after a shift.
    """

    pattern: Ints
    number: int
    least: float

    @cached_property
    def window(self) -> npt.NDArray[np.bool_]:
        return self.pattern >= 0

    @cached_property
    def common(self) -> Ints:
        """Squares (rows, columns) that the window and itself, shifted by so many rows and columns, have both."""
        spectrum = fft.rfft2(self.window.astype(np.float64))
        return np.rint(fft.irfft2(np.abs(spectrum) ** 2, s=self.window.shape)).astype(np.int64)

    def shifts(self, number: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Random rows and columns that leave enough of the window; fewer than ``number`` where there are few."""
        height, width = self.pattern.shape
        least = self.least * self.window.sum()
        drawn = 0
        for _ in range(TRIES * number):
            if drawn == number:
                return
            down, right = int(rng.integers(height)), int(rng.integers(width))
            if self.common[down, right] >= least:
                drawn += 1
                yield down, right

    def counted(self, rows: Ints, columns: Ints, number: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Cells and squares of each pattern, (s, ``self.number``) each, on what window and shifted window both show.

        Args:
            rows, columns: (n,) squares of the cells, before they are shifted.
        """
        inside = self.window[rows, columns]
        cells = np.sort(self._places(rows[inside], columns[inside]))  # in the order of memory
        within, outside = (self._places(*np.nonzero(self.window == shown)) for shown in (True, False))
        whole = self._tally(within, 0, 0)
        of_cells, of_squares = [], []
        for down, right in self.shifts(number, rng):
            of_cells.append(self._tally(cells, down, right))
            fewer = len(within) <= len(outside)
            squares = self._tally(within, down, right) if fewer else whole - self._tally(outside, down, right)
            of_squares.append(squares)
        shape = (len(of_cells), self.number)
        return np.reshape(of_cells, shape).astype(float), np.reshape(of_squares, shape).astype(float)

    @cached_property
    def _doubled(self) -> npt.NDArray[np.integer[Any]]:
        """The raster twice next to and below itself, row by row; outside the window ``number``."""
        named = np.where(self.window, self.pattern, self.number).astype(np.min_scalar_type(self.number))
        return np.tile(named, (2, 2)).ravel()

    def _places(self, rows: Ints, columns: Ints) -> Ints:
        """Where squares are in :attr:`_doubled`."""
        return np.asarray(rows, np.int64) * (2 * self.pattern.shape[1]) + columns

    def _tally(self, places: Ints, down: int, right: int) -> Ints:
        """How many of the places come to a square of each pattern."""
        start = down * 2 * self.pattern.shape[1] + right
        return np.bincount(self._doubled[start:].take(places), minlength=self.number + 1)[: self.number]
