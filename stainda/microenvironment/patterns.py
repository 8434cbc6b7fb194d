r"""Ripley's K, L and the pair correlation of cells in a polygon with holes, with simulations of two null hypotheses.

With :math:`\gamma(v) = |W \cap (W + v)|`, the area that the window shares with itself shifted by :math:`v`,

.. math:: \hat K(r) = \frac{|W|^2}{n (n - 1)} \sum_{i \ne j} \frac{1[\,\|x_i - x_j\| \le r\,]}{\gamma(x_j - x_i)}

(translation correction: J. Ohser, D. Stoyan 1981), :math:`L = \sqrt{K / \pi}`, and :math:`g` in a step of distance is
the growth of K over that of :math:`\pi r^2`. Under complete spatial randomness K is :math:`\pi r^2`, L is r, g is 1.
The correction is exact for any window, holes included, up to its raster; it needs no boundary geometry per pair. K and
g are kept as weighted pairs *found* and *expected* in each step, of which those of several sections are sums.
Everything is in micrometres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from stainda.microenvironment.raster_fields import StepCounts
from stainda.microenvironment.window import CountingWindow

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MOST = 5_000
"""Points of which pairs are counted; of more, so many are drawn at random."""


def ring_areas(r: Floats) -> Floats:
    """Areas (k,) of the disc of radius ``r[0]`` and of the rings up to ``r[1]`` and so on."""
    return np.pi * np.diff(np.asarray(r) ** 2, prepend=0.0)


def k_function(g: Floats, r: Floats) -> Floats:
    """K (..., k) at the distances ``r`` from g in the steps up to them (..., k); steps without g count as 1."""
    return np.cumsum(np.where(np.isfinite(g), g, 1.0) * ring_areas(r), axis=-1)


def l_function(g: Floats, r: Floats) -> Floats:
    """L less r, (..., k): 0 under complete spatial randomness, above it where cells are near each other."""
    return np.sqrt(k_function(g, r) / np.pi) - r


@dataclass(frozen=True, eq=False)
class CellPairs:
    """Pairs of n points closer than the last distance.

    Attributes:
        first, second: (p,) indices of the points, every pair once. step: (p,) its step of distance.
        weight: (p,) area of the window over the area that it shares with itself shifted by the pair.
    """

    number: int
    first: Ints
    second: Ints
    step: Ints
    weight: Floats
    r: Floats
    area: float

    @classmethod
    def of(cls, points: Floats, window: CountingWindow, r: Floats) -> CellPairs:
        if len(points) > 1 and window.area > 0:
            near = cKDTree(points).query_pairs(float(r[-1]), output_type="ndarray")
            shift = points[near[:, 1]] - points[near[:, 0]]
            weight = window.area / np.maximum(window.covariance(shift), 1e-3 * window.area)
        else:
            near, shift, weight = np.zeros((0, 2), np.int64), np.zeros((0, 2)), np.zeros(0)
        step = np.searchsorted(r, np.linalg.norm(shift, axis=1), side="left")
        kept = step < len(r)
        first, second = near[kept].T
        return cls(len(points), first, second, step[kept], weight[kept], np.asarray(r, float), window.area)

    def counts(self, chosen: npt.NDArray[np.bool_] | None = None) -> StepCounts:
        """Weighted ordered pairs in each step, (k,); of the ``chosen`` points (n,) alone where they are given."""
        used = slice(None) if chosen is None else chosen[self.first] & chosen[self.second]
        n = self.number if chosen is None else int(chosen.sum())
        pairs = np.asarray(2 * np.bincount(self.step[used], self.weight[used], minlength=len(self.r)), np.float64)
        expected = n * (n - 1) / self.area * ring_areas(self.r) if self.area > 0 else np.zeros(len(self.r))
        return StepCounts(pairs, expected)


def thinned(points: Floats, rng: np.random.Generator, most: int = MOST) -> Floats:
    """At most so many of the points, drawn at random: K and g stay what they are."""
    return points if len(points) <= most else points[rng.choice(len(points), most, replace=False)]


def scattered(count: int, window: CountingWindow, number: int, rng: np.random.Generator) -> Floats:
    """Patterns of points (number, count, 2) anywhere in the window, evenly; none where the window is empty."""
    centres = window.centres()
    if not len(centres):
        return np.zeros((0, count, 2))
    shape = (number, count)
    return centres[rng.integers(len(centres), size=shape)] + rng.uniform(-0.5, 0.5, (*shape, 2)) * window.step


def random_pairs(count: int, window: CountingWindow, r: Floats, number: int, rng: np.random.Generator) -> StepCounts:
    """Pairs of so many points under complete spatial randomness, arrays (number, k)."""
    patterns = scattered(count, window, number, rng)
    return StepCounts.stacked([CellPairs.of(points, window, r).counts() for points in patterns], len(r))


def relabelled_pairs(pairs: CellPairs, count: int, number: int, rng: np.random.Generator) -> StepCounts:
    """Pairs of ``count`` of all points, drawn at random: arrays (number, k)."""
    drawn = []
    for _ in range(number):
        chosen = np.zeros(pairs.number, bool)
        chosen[rng.choice(pairs.number, min(count, pairs.number), replace=False)] = True
        drawn.append(pairs.counts(chosen))
    return StepCounts.stacked(drawn, len(pairs.r))
