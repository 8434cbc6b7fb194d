"""Evidence from parts of a section that a fit has not seen.

An attempt that is fitted to structures always raises their agreement; whether it is right shows where it was not
fitted. So a fit is made without every fourth square of the section, and judged by the agreement in these squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.registration.similarity import SCALES, DensityGradients

SQUARES = 14  # along the longer side of the view: some 36 view pixels wide
FOLDS = 4  # one square of so many is held back
INNER = 4  # view pixels along the border of a square that are not judged: the gradient filter reaches across it
LEAST = 40  # compared pixels, below which a square says nothing
LEAST_SQUARES = 6  # fewer give no standard error worth the name
SURE = 2.0  # standard errors by which the mean gain of the squares must exceed zero


@dataclass(frozen=True, eq=False)
class HeldBack:
    """Squares of a view, or of a window. ``number`` int (h, w) counts them from 1, and is 0 in what a fit may see."""

    number: Array

    @classmethod
    def of(cls, shape: tuple[int, ...], fold: int = 0) -> HeldBack:
        """Every fourth square, so that each lies between ones that are seen; in one of the four ``FOLDS``."""
        side = max(shape) / SQUARES
        y, x = (np.arange(length) / side for length in shape)
        row, column = y.astype(int)[:, None], x.astype(int)[None]
        held = (2 * row + column + row // 2) % FOLDS == fold
        return cls(np.where(held, row * (SQUARES + 1) + column + 1, 0))

    @property
    def seen(self) -> Array:
        """bool (h, w): what a fit may use."""
        return self.number == 0

    @property
    def judged(self) -> Array:
        """bool (h, w): squares without their border."""
        return np.asarray(ndimage.binary_erosion(self.number > 0, iterations=INNER))

    def means(self, values: Array, where: Array) -> Array:
        """The mean of an image (h, w) in each square with enough pixels ``where``, (k,); NaN in the others."""
        labels = np.where(self.judged & where, self.number, 0).ravel()
        count = np.bincount(labels, minlength=int(self.number.max()) + 1)[1:]
        total = np.bincount(labels, values.ravel(), minlength=int(self.number.max()) + 1)[1:]
        return np.where(count >= LEAST, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Gain:
    """Mean gain of agreement in held-back squares, and its standard error; ``squares`` that say something."""

    mean: float
    error: float
    squares: int

    @classmethod
    def of(cls, before: Array, after: Array) -> Gain:
        """Of the means of the same squares."""
        gain = (after - before)[np.isfinite(after) & np.isfinite(before)]
        if len(gain) < LEAST_SQUARES:
            return cls(0.0, float("inf"), len(gain))
        return cls(float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain))), len(gain))

    @property
    def supported(self) -> bool:
        """The parts that were held back agree better."""
        return self.mean > SURE * self.error

    @property
    def contradicted(self) -> bool:
        """They agree no better on average, whatever chance may have done."""
        return self.squares > 0 and self.mean <= 0

    def __str__(self) -> str:
        return f"agreement in {self.squares} held-back parts changes by {self.mean:+.3f} ± {self.error:.3f}"


def agreement_map(first: DensityGradients, second: DensityGradients, where: Array) -> Array:
    """Agreement of gradient directions of two images, float (h, w), mean of the fine scales."""
    maps = [(first.directions(where, scale) * second.directions(where, scale)).sum(axis=0) for scale in SCALES]
    return np.mean(maps, axis=0)
