"""Cells and areas in and around structures: inside, and rings by signed distance to the outline.

The signed distance of a point to a structure is that to its outline, negative within. A zone ``(a, b]`` of a structure
is where that distance is above ``a`` and at most ``b``; the first is the structure itself. Zones end where the window
(the tissue without its holes) ends and where another structure begins. Zones of two neighbouring structures may
overlap: each structure is described by all that surrounds it. The zones of a whole section go by the *nearest*
structure, so that every cell and every piece of tissue is in exactly one of them.

Everything is in micrometres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Geometries = npt.NDArray[np.object_]

QUARTER = 16
"""Segments of a quarter circle in a buffer: its area is 0.04 % too small."""


@dataclass(frozen=True)
class Zones:
    """Zones about a structure: ``edges`` (k,) are their outer signed distances, the first being 0."""

    edges: tuple[float, ...]

    @classmethod
    def of_rings(cls, rings_um: Sequence[float]) -> Zones:
        return cls((0.0, *map(float, rings_um)))

    def __len__(self) -> int:
        return len(self.edges)

    @property
    def reach(self) -> float:
        return self.edges[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """``inside``, then ``0-25`` and so on."""
        return ("inside", *(f"{a:g}-{b:g}" for a, b in zip(self.edges, self.edges[1:], strict=False)))

    @property
    def bounds(self) -> tuple[tuple[float | None, float], ...]:
        """From and to of every zone; the first has no lower end."""
        return ((None, 0.0), *zip(self.edges, self.edges[1:], strict=False))

    @property
    def widths(self) -> Floats:
        """Of every zone; that of the first is infinite: it is as wide as the structure."""
        return np.array([np.inf, *np.diff(self.edges)])

    def index(self, distance: Floats) -> Ints:
        """The zone of each signed distance; ``len(self)`` beyond the last."""
        return np.searchsorted(np.asarray(self.edges), distance, side="left")


@dataclass(frozen=True, eq=False)
class ObjectPairs:
    """Structures and points near each other: ``structure`` and ``point`` (n,) indices, ``distance`` (n,) signed."""

    structure: Ints
    point: Ints
    distance: Floats


def near_pairs(structures: Geometries, points: Floats, reach: float, tree: cKDTree | None = None) -> ObjectPairs:
    """All pairs of a structure and a point at most ``reach`` from it.

    Args:
        structures: (m,) polygons. points: (n, 2). tree: of the points, where there is one already.
    """
    if not len(structures) or not len(points):
        none = np.zeros(0, np.int64)
        return ObjectPairs(none, none, np.zeros(0))
    tree = cKDTree(points) if tree is None else tree
    corners = shapely.bounds(structures)
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    radii = np.linalg.norm(corners[:, 2:] - corners[:, :2], axis=1) / 2
    balls = tree.query_ball_point(centres, radii + reach)
    sizes = [len(ball) for ball in balls]
    rows = np.repeat(np.arange(len(structures)), sizes)
    columns = np.concatenate([np.asarray(ball, np.int64) for ball in balls]) if sum(sizes) else np.zeros(0, np.int64)
    distance = signed_distance(structures, rows, points[columns])
    kept = distance <= reach
    return ObjectPairs(rows[kept], columns[kept], distance[kept])


def signed_distance(structures: Geometries, rows: Ints, points: Floats | Geometries) -> Floats:
    """Signed distance (n,) of points, (n, 2) or n geometries, from the outlines of ``structures[rows]``."""
    if not len(rows):
        return np.zeros(0)
    outlines = shapely.boundary(structures)
    places = shapely.points(points) if points.ndim == 2 else points
    distance = shapely.distance(outlines[rows], places)
    shapely.prepare(structures)
    return np.where(shapely.contains(structures[rows], places), -distance, distance)


def table(pairs: ObjectPairs, zones: Zones, number: int, weights: Floats | None = None) -> Floats:
    """Points, or the sum of their weights, by structure and zone: float (number, k)."""
    zone = zones.index(pairs.distance)
    kept = zone < len(zones)
    flat = pairs.structure[kept] * len(zones) + zone[kept]
    given = None if weights is None else weights[pairs.point[kept]]
    return np.bincount(flat, given, minlength=number * len(zones)).reshape(number, len(zones)).astype(float)


def within_other(pairs: ObjectPairs) -> npt.NDArray[np.bool_]:
    """Pairs (n,) whose point lies within another structure than that of the pair."""
    inside = np.flatnonzero(pairs.distance <= 0)[::-1]
    if not len(inside):
        return np.zeros(len(pairs.point), bool)
    owner = np.full(int(pairs.point.max()) + 1, -1, np.int64)
    owner[pairs.point[inside]] = pairs.structure[inside]  # of several, the first is written last
    home = owner[pairs.point]
    return (home >= 0) & (home != pairs.structure)


def counts(pairs: ObjectPairs, zones: Zones, number: int) -> Floats:
    """Cells by structure and zone (number, k); cells within another structure count for that one alone."""
    kept = ~within_other(pairs)
    return table(ObjectPairs(pairs.structure[kept], pairs.point[kept], pairs.distance[kept]), zones, number)


def areas(structures: Geometries, zones: Zones, window: BaseGeometry) -> Floats:
    """Area of every zone of every structure, µm² (m, k): within the window, outside other structures."""
    shapely.prepare(window)
    outer = [shapely.buffer(structures, edge, quad_segs=QUARTER) if edge else structures for edge in zones.edges]
    tree = shapely.STRtree(structures)
    rows, columns = tree.query(outer[-1], predicate="intersects")
    others: dict[int, list[int]] = {}
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if row != column:
            others.setdefault(row, []).append(column)
    whole = shapely.contains_properly(window, outer[-1])
    by_zone = np.zeros((len(structures), len(zones)))
    for row in range(len(structures)):
        parts = np.array([zone[row] for zone in outer], dtype=object)
        if near := others.get(row):
            hidden = shapely.difference(shapely.union_all(structures[near]), structures[row])
            parts = shapely.difference(parts, hidden)
        if not whole[row]:
            parts = shapely.intersection(parts, _near(window, parts[-1]))
        by_zone[row] = np.diff(shapely.area(parts), prepend=0.0)
    return np.maximum(by_zone, 0.0)


def _near(window: BaseGeometry, shape: BaseGeometry) -> BaseGeometry:
    """The part of a window in the box of a shape: what follows is faster with few corners."""
    return shapely.clip_by_rect(window, *shape.buffer(1.0).bounds)


def nearest(pairs: ObjectPairs, number: int) -> tuple[Floats, Ints]:
    """Distance of each of ``number`` points to the nearest structure, and which that is; infinite and -1: none near."""
    distance, which = np.full(number, np.inf), np.full(number, -1, np.int64)
    order = np.lexsort((pairs.structure, -pairs.distance))  # the smallest is written last
    distance[pairs.point[order]] = pairs.distance[order]
    which[pairs.point[order]] = pairs.structure[order]
    return distance, which


def nearest_outside(
    structures: Geometries, points: Floats, pairs: ObjectPairs, reach: float, tree: cKDTree | None = None
) -> Floats:
    """Distance (m,) of each structure's outline to the nearest point outside it, however far; ``nan`` without one.

    Args:
        pairs: of these structures and points within ``reach``. tree: of the points, where there is one already.
    """
    away = _least(pairs, len(structures))
    corners = np.concatenate([points, shapely.bounds(structures).reshape(-1, 2)])
    widest = float(np.linalg.norm(np.ptp(corners, axis=0))) if len(corners) else 0.0
    left = np.flatnonzero(np.isinf(away))
    while len(left) and reach < widest:
        reach = max(2 * reach, 1.0)
        away[left] = _least(near_pairs(structures[left], points, reach, tree), len(left))
        left = left[np.isinf(away[left])]
    return np.where(np.isinf(away), np.nan, away)


def _least(pairs: ObjectPairs, number: int) -> Floats:
    """The smallest distance of each structure to a point outside it, infinite without one."""
    away, outside = np.full(number, np.inf), pairs.distance > 0
    np.minimum.at(away, pairs.structure[outside], pairs.distance[outside])
    return away


def pooled_areas(structures: Geometries, zones: Zones, window: BaseGeometry) -> Floats:
    """Area of the zones by the nearest structure, µm² (k + 1,); the last is the window beyond all of them."""
    total = float(window.area)
    if not len(structures):
        return np.array([0.0] * len(zones) + [total])
    inside = []
    for edge in zones.edges:
        grown = shapely.buffer(structures, edge, quad_segs=QUARTER) if edge else structures
        inside.append(float(shapely.intersection(shapely.union_all(grown), window).area))
    return np.diff([0.0, *inside, total])


def pooled_counts(distance: Floats, zones: Zones) -> Floats:
    """Cells by the zone of their nearest structure (k + 1,); the last are those beyond."""
    return np.bincount(zones.index(distance), minlength=len(zones) + 1).astype(float)
