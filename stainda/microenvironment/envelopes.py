"""Envelopes and tests by simulation: toroidal shifts, random relabelling, complete randomness.

**Global envelope**: curves are ordered by extreme rank length (M. Myllymäki et al., JRSS B 79, 2017): each value gets
its rank among all curves from either side, and curves are compared by their sorted ranks. The test has its level
whatever the curves are, as long as the observed one is one among equals under the null hypothesis.

**Null hypotheses.** *Toroidal shift* (H. W. Lotwick, B. W. Silverman 1982): cells are as clustered as they are, but lie
where they lie independently of the structures. The pattern and its window are shifted together on a torus, turned along
the tissue; only what both windows show is compared, so that nothing is invented where there is no tissue, and a shift
that leaves less than half of it is not used. *Random relabelling*: cells are where they are, but which of them are of
the kind asked about (positive ones) is chance. *Complete randomness*: cells are anywhere in the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage
from shapely.affinity import rotate

from stainda.microenvironment.window import CountingWindow
from stainda.microenvironment.zones import Geometries, Zones

Floats = npt.NDArray[np.float64]
Null = Literal["shift", "relabel", "random"]
LEAST_COMMON = 0.5
"""Share of the window that must remain after a shift."""


@dataclass(frozen=True, eq=False)
class Envelope:
    """Observed curve (k,), pointwise ``low``, ``high`` and ``middle`` of the simulated ones, and the global p."""

    observed: Floats
    low: Floats
    high: Floats
    middle: Floats
    p: float
    simulations: int


def envelope(observed: Floats, simulated: Floats, level: float = 0.95) -> Envelope:
    """Envelope of simulated curves (s, k), and the p value of the observed one (k,) by extreme rank length.

    Values that are not defined in some curve are left out of the test.
    """
    simulated = np.atleast_2d(simulated)
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low, middle, high = np.quantile(simulated, [tail, 0.5, 1 - tail], axis=0)
    used = np.isfinite(observed) & np.isfinite(simulated).all(axis=0)
    p = rank_p(np.vstack([observed, simulated])[:, used]) if used.any() and len(simulated) else float("nan")
    return Envelope(observed, low, high, middle, p, len(simulated))


def rank_p(curves: Floats) -> float:
    """p of the first of the curves (s + 1, k) by extreme rank length; of ties, the observed one counts as extreme."""
    below = np.column_stack([_ranks(column) for column in curves.T])
    ranks = np.sort(np.minimum(below, len(curves) + 1 - below), axis=1)
    order = np.lexsort(ranks.T[::-1])
    first = ranks[order]
    position = int(np.flatnonzero((first == ranks[0]).all(axis=1)).max()) + 1
    return position / len(curves)


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, the mean of them where values are equal."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2


@dataclass(frozen=True, eq=False)
class DistanceField:
    """For every cell of the raster of a (turned) window: its zone about the nearest structure, -1 outside the window.

    Attributes:
        zone: int (rows, columns); ``len(zones)`` is beyond. window, angle: the window, turned by ``angle`` degrees.
    """

    zone: npt.NDArray[np.int64]
    window: CountingWindow
    angle: float
    zones: Zones

    @classmethod
    def of(cls, structures: Geometries, zones: Zones, window: CountingWindow) -> DistanceField:
        """Turned so that the longer side of the tissue lies along the rows: a shift along it loses least."""
        box = np.asarray(shapely.minimum_rotated_rectangle(window.shape).exterior.coords)
        sides = np.diff(box[:3], axis=0)
        longest = sides[np.argmax(np.linalg.norm(sides, axis=1))]
        angle = -float(np.degrees(np.arctan2(longest[1], longest[0])))
        turned = CountingWindow(rotate(window.shape, angle, origin=(0, 0)), window.step)
        inside = np.zeros(turned.mask.shape, bool)
        grid = CountingWindow(shapely.box(*turned.shape.bounds), window.step)
        for one in structures:
            part = rotate(one, angle, origin=(0, 0))
            _fill(inside, part, grid)
        if inside.any():
            away = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
            # distances run between centres of cells, and the outline half a cell before the first one outside
            signed = (away - 0.5 * np.sign(away)) * window.step
        else:
            signed = np.full(inside.shape, np.inf)
        zone = np.where(turned.mask, zones.index(signed), -1)
        return cls(zone, turned, angle, zones)

    def places(self, points: Floats) -> npt.NDArray[np.int64]:
        """Rows and columns (n, 2) of points that are not turned."""
        turn = np.deg2rad(self.angle)
        turned = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return np.column_stack(self.window.cells(turned))

    def relative(self, counts: Floats, areas: Floats) -> Floats:
        """Density by zone over that of all zones together (..., k); ``nan`` where a zone has no area."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (counts / areas) / (counts.sum(axis=-1, keepdims=True) / areas.sum(axis=-1, keepdims=True))

    def tally(self, zone: npt.NDArray[np.int64]) -> Floats:
        """How many of the values are of each zone, the last being beyond; -1 is none."""
        return np.bincount(zone[zone >= 0].ravel(), minlength=len(self.zones) + 1).astype(float)

    def observed(self, points: Floats) -> tuple[Floats, Floats]:
        """Cells and raster cells by zone, (k + 1,) each."""
        rows, columns = self.places(points).T
        return self.tally(self.zone[rows, columns]), self.tally(self.zone)

    def shifted(self, points: Floats, number: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """The same after random toroidal shifts of the cells and their window: two arrays (number, k + 1)."""
        rows, columns = self.places(points).T
        here = self.zone >= 0
        inside = here[rows, columns]
        rows, columns = rows[inside], columns[inside]
        height, width = here.shape
        cells, areas = np.zeros((number, len(self.zones) + 1)), np.zeros((number, len(self.zones) + 1))
        done = tries = 0
        while done < number and tries < 20 * number:
            tries += 1
            down, right = int(rng.integers(height)), int(rng.integers(width))
            common = here & np.roll(here, (down, right), axis=(0, 1))
            if common.sum() < LEAST_COMMON * here.sum():
                continue
            zone = np.where(common, self.zone, -1)
            cells[done] = self.tally(zone[(rows + down) % height, (columns + right) % width])
            areas[done] = self.tally(zone)
            done += 1
        return cells[:done], areas[:done]

    def scattered(self, count: int, number: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """The same of ``count`` cells put anywhere in the window."""
        areas = self.tally(self.zone)
        cells = rng.multinomial(count, areas / areas.sum(), size=number).astype(float)
        return cells, np.repeat(areas[None], number, axis=0)

    def relabelled(self, all_points: Floats, count: int, number: int, rng: np.random.Generator) -> Floats:
        """Cells by zone when ``count`` of all cells are drawn at random, (number, k + 1)."""
        rows, columns = self.places(all_points).T
        total = self.tally(self.zone[rows, columns]).astype(np.int64)
        return rng.multivariate_hypergeometric(total, min(count, int(total.sum())), size=number).astype(float)


def _fill(inside: npt.NDArray[np.bool_], shape: shapely.Geometry, grid: CountingWindow) -> None:
    """Mark the cells of a raster whose centres lie in a shape."""
    x0, y0, x1, y1 = shape.bounds
    rows, columns = grid.cells(np.array([[x0, y0], [x1, y1]]))
    r = np.arange(rows[0], rows[1] + 1)
    c = np.arange(columns[0], columns[1] + 1)
    gx, gy = np.meshgrid(grid.origin[0] + (c + 0.5) * grid.step, grid.origin[1] + (r + 0.5) * grid.step)
    shapely.prepare(shape)
    found = np.asarray(shapely.contains_xy(shape, gx.ravel(), gy.ravel())).reshape(gx.shape)
    height, width = inside.shape
    part = inside[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1]
    part |= found[: min(len(r), height - rows[0]), : min(len(c), width - columns[0])]
