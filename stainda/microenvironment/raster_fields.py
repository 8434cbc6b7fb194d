"""Cells in steps of distance from structures, as observed and as simulated under three null hypotheses.

**Null hypotheses.** *Toroidal shift* (H. W. Lotwick, B. W. Silverman 1982): cells are as clustered as they are, but lie
where they lie independently of the structures. The pattern and its window are shifted together on a torus, turned along
the tissue; only what both windows show is compared, so that nothing is invented where there is no tissue, and a shift
that leaves less than half of it is not used. *Random relabelling*: cells are where they are, but which of them are of
the kind that is counted is chance. *Complete spatial randomness*: cells are anywhere in the window.

**Edge correction.** In each step the cells are compared with the area of that step within the window, summed over the
structures: the ratio is unbiased for any window, holes included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage, sparse
from shapely.affinity import rotate

from stainda.config.microenvironment import NullModel
from stainda.microenvironment.toroidal_shifts import Torus
from stainda.microenvironment.window import CountingWindow
from stainda.microenvironment.zones import Geometries, Zones

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LEAST_COMMON = 0.5
"""Share of the window that must remain after a shift."""


@dataclass(frozen=True, eq=False)
class StepCounts:
    """Cells ``found`` in k steps of distance, and how many were ``expected`` at equal density everywhere: (..., k)."""

    found: Floats
    expected: Floats

    @classmethod
    def stacked(cls, counts: Sequence[StepCounts], steps: int) -> StepCounts:
        """Those of several sections or simulations, arrays (n, k)."""
        shape = (len(counts), steps)
        return cls(
            np.reshape([count.found for count in counts], shape),
            np.reshape([count.expected for count in counts], shape),
        )

    def weighted(self, weights: Floats) -> StepCounts:
        """Sums of stacked counts, each as often as ``weights`` (..., n) says."""
        return StepCounts(weights @ self.found, weights @ self.expected)

    @property
    def ratio(self) -> Floats:
        """Density in each step over that of the window; ``nan`` where nothing is expected."""
        return np.divide(self.found, self.expected, out=np.full(self.found.shape, np.nan), where=self.expected > 0)


@dataclass(frozen=True, eq=False)
class RasterField:
    """How often each square of a (turned) window lies in each step of distance.

    Attributes:
        pattern: (rows, columns) which row of ``steps`` a square has; -1 outside the window.
        steps: (p, k) how often such a square is in each step: once for zones by the nearest structure, as often as
            there are structures at that distance for distances from all of them.
        window, angle: the window, turned by ``angle`` degrees.
    """

    pattern: Ints
    steps: Floats
    window: CountingWindow
    angle: float

    @classmethod
    def of_zones(cls, structures: Geometries, zones: Zones, window: CountingWindow) -> RasterField:
        """Steps are the zones by the nearest structure, and what is beyond them."""
        turned, angle = window.turned
        inside = np.zeros(turned.mask.shape, bool)
        grid = CountingWindow(shapely.box(*turned.shape.bounds), window.step)
        for structure in structures:
            _fill(inside, rotate(structure, angle, origin=(0, 0)), grid)
        if inside.any():
            # distances run between centres of squares, and the outline half a square before the first one outside; all
            # that is inside is one step
            signed = (ndimage.distance_transform_edt(~inside) - 0.5) * window.step
        else:
            signed = np.full(inside.shape, np.inf)
        pattern = np.where(turned.mask, zones.index(signed), -1)
        return cls(pattern, np.eye(len(zones) + 1), turned, angle)

    @classmethod
    def about_centres(cls, centres: Floats, r: Floats, window: CountingWindow) -> RasterField:
        """Steps are rings about each of the points (m, 2), from 0 to ``r[0]``, to ``r[1]`` and so on."""
        turned, angle = window.turned
        rows, columns = turned.mask.shape
        square, ring = _rings(rotated_points(centres, angle), r, turned)
        counted = sparse.csr_array((np.ones(len(square)), (square, ring)), shape=(rows * columns, len(r)))
        # squares with the same steps are one pattern: each gets a number that hardly two different ones share
        weight = np.random.default_rng(0).integers(1, 2**40, len(r))
        inside = np.flatnonzero(turned.mask.ravel())
        key = np.zeros(rows * columns, np.int64)
        np.add.at(key, square, weight[ring])
        _, first, number = np.unique(key[inside], return_index=True, return_inverse=True)
        pattern = np.full(rows * columns, -1, np.int64)
        pattern[inside] = number.ravel()
        steps = counted[inside[first]].toarray()
        return cls(pattern.reshape(rows, columns), steps, turned, angle)

    def places(self, points: Floats) -> Ints:
        """Rows and columns (n, 2) of points that are not turned."""
        return np.column_stack(self.window.cells(rotated_points(points, self.angle)))

    def observed(self, points: Floats) -> StepCounts:
        """Points (n, 2) in each step: arrays (k,)."""
        rows, columns = self.places(points).T
        cells, area = self._tally(self.pattern[rows, columns]), self._tally(self.pattern)
        return self._counts(cells, area)

    def simulated(
        self,
        null: NullModel,
        points: Floats,
        number: int,
        rng: np.random.Generator,
        *,
        others: Floats | None = None,
    ) -> StepCounts:
        """The same under a null hypothesis, arrays (number, k); fewer where too few shifts are possible.

        Args:
            others: (m, 2) cells of other kinds, among which the points are drawn by ``relabel``.
        """
        rows, columns = self.places(points).T
        area = self._tally(self.pattern)
        if null == "shift":
            return self._shifted(rows, columns, number, rng)
        cells = self._tally(self.pattern[rows, columns])
        count = int(cells.sum())
        if null == "csr":
            drawn = rng.multinomial(count, area / area.sum(), size=number) if area.sum() else np.zeros((0, len(area)))
        else:
            rows, columns = self.places(np.zeros((0, 2)) if others is None else others).T
            total = (cells + self._tally(self.pattern[rows, columns])).astype(np.int64)
            drawn = rng.multivariate_hypergeometric(total, count, size=number, method="marginals")
        return self._counts(drawn.astype(float), np.broadcast_to(area, drawn.shape))

    def _shifted(self, rows: Ints, columns: Ints, number: int, rng: np.random.Generator) -> StepCounts:
        torus = Torus(self.pattern, len(self.steps), LEAST_COMMON)
        return self._counts(*torus.counted(rows, columns, number, rng))

    def _tally(self, pattern: Ints) -> Floats:
        """How many of the values are of each pattern; -1 is none."""
        return np.bincount(pattern[pattern >= 0].ravel(), minlength=len(self.steps)).astype(float)

    def _counts(self, cells: Floats, area: Floats) -> StepCounts:
        """From cells and squares by pattern (..., p)."""
        total = area.sum(axis=-1, keepdims=True)
        share = np.divide(
            area @ self.steps, total, out=np.zeros((*area.shape[:-1], self.steps.shape[1])), where=total > 0
        )
        return StepCounts(cells @ self.steps, cells.sum(axis=-1, keepdims=True) * share)


def rotated_points(points: Floats, angle: float) -> Floats:
    """Points (n, 2) turned about the origin by ``angle`` degrees."""
    turn = np.deg2rad(angle)
    return points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def _rings(centres: Floats, r: Floats, window: CountingWindow) -> tuple[Ints, Ints]:
    """Squares of the raster (by place, row by row) within ``r[-1]`` of each centre, and their rings: (n,) each."""
    height, width = window.mask.shape
    squares, rings = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for centre in centres:
        low, high = ((centre + side * r[-1] - window.origin) / window.step for side in (-1, 1))
        c, w = (np.arange(max(int(low[k]), 0), min(int(high[k]) + 1, (width, height)[k])) for k in (0, 1))
        x, y = (window.origin[k] + (line + 0.5) * window.step - centre[k] for k, line in ((0, c), (1, w)))
        ring = np.searchsorted(r, np.hypot(x[None], y[:, None]), side="left")
        row, column = np.nonzero(ring < len(r))
        squares.append(w[row] * width + c[column])
        rings.append(ring[row, column])
    return np.concatenate(squares), np.concatenate(rings)


def _fill(inside: npt.NDArray[np.bool_], shape: shapely.Geometry, grid: CountingWindow) -> None:
    """Mark the squares of a raster whose centres lie in a shape."""
    x0, y0, x1, y1 = shape.bounds
    rows, columns = grid.cells(np.array([[x0, y0], [x1, y1]]))
    r = np.arange(rows[0], rows[1] + 1)
    c = np.arange(columns[0], columns[1] + 1)
    gx, gy = np.meshgrid(grid.origin[0] + (c + 0.5) * grid.step, grid.origin[1] + (r + 0.5) * grid.step)
    shapely.prepare(shape)
    covered = np.asarray(shapely.contains_xy(shape, gx.ravel(), gy.ravel())).reshape(gx.shape)
    height, width = inside.shape
    part = inside[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1]
    part |= covered[: min(len(r), height - rows[0]), : min(len(c), width - columns[0])]
