"""Outlines between pixels: marching squares around labelled objects of a probability map, band after band of rows.

Values belong to the middles of pixels. Between the middle of a pixel of an object and that of a pixel that is not of it
the outline runs where the probability, taken as linear, crosses the threshold. Objects that touch share that point.
Pixels of an object hang together over edges, not corners (Lorensen & Cline 1987; of the two ways to draw a saddle the
one that keeps corners apart). Every crossing has the number of its edge in the whole map, so that pieces of an outline
from different bands join exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from stainda.arrays import Array

FOREIGN = np.iinfo(np.int64).max
"""Label of what is an object but not one to be outlined."""

LEAST = 1e-3
"""Least distance of a probability from the threshold, so that every pixel above it is inside of an outline."""

_TOP, _RIGHT, _BOTTOM, _LEFT = range(4)
# by corners inside (top left 1, top right 2, bottom right 4, bottom left 8): from edge to edge, the inside on the right
_SEGMENTS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((_TOP, _LEFT),), 2: ((_RIGHT, _TOP),), 4: ((_BOTTOM, _RIGHT),), 8: ((_LEFT, _BOTTOM),),
    3: ((_RIGHT, _LEFT),), 6: ((_BOTTOM, _TOP),), 12: ((_LEFT, _RIGHT),), 9: ((_TOP, _BOTTOM),),
    5: ((_TOP, _LEFT), (_BOTTOM, _RIGHT)), 10: ((_RIGHT, _TOP), (_LEFT, _BOTTOM)),
    14: ((_LEFT, _TOP),), 13: ((_TOP, _RIGHT),), 11: ((_RIGHT, _BOTTOM),), 7: ((_BOTTOM, _LEFT),),
}  # fmt: skip
_NONE = -1
_TABLE = np.full((16, 2, 2), _NONE)
for _code, _pairs in _SEGMENTS.items():
    for _number, _pair in enumerate(_pairs):
        _TABLE[_code, _number] = _pair
# the two nodes of each edge of a cell, as steps (row, column) from its top left node
_ENDS = np.array([[[0, 0], [0, 1]], [[0, 1], [1, 1]], [[1, 0], [1, 1]], [[0, 0], [1, 0]]])


@dataclass(frozen=True)
class Band:
    """Rows of a map with one column (and, at its ends, one row) of nothing around: *nodes*.

    Attributes:
        labels: int64 ``(h, w)`` of nodes; 0 is background, :data:`FOREIGN` an object that is not to be outlined.
        classes: index of the class of each labelled node, ``(h, w)``.
        values: probabilities ``(classes, h, w)``; of nodes outside the map of no meaning.
        row, column: number of the first node in the map's grid of nodes, of which (1, 1) is the first pixel.
    """

    labels: Array
    classes: Array
    values: Array
    row: int = 0
    column: int = 0


class Contours:
    """Gathers the outlines of labelled objects.

    Args:
        x, y: level-0 positions of the columns and rows of nodes: the middles of pixels, and before and after them the
            two edges of the map, on which outlines end.
        thresholds: by class.
    """

    def __init__(self, x: Array, y: Array, thresholds: Array) -> None:
        self._x, self._y, self._limits = x, y, np.asarray(thresholds, np.float64)
        self._owners: list[Array] = []
        self._starts: list[Array] = []
        self._stops: list[Array] = []
        self._points: list[Array] = []

    def add(self, band: Band) -> None:
        """The pieces of outline in all cells between the nodes of a band. Bands share one row of nodes."""
        labels = band.labels
        corners = [labels[:-1, :-1], labels[:-1, 1:], labels[1:, 1:], labels[1:, :-1]]
        mixed = (corners[0] != corners[1]) | (corners[1] != corners[2]) | (corners[2] != corners[3])
        rows, columns = np.nonzero(mixed)
        around = np.stack([corner[rows, columns] for corner in corners], 1)
        for first in range(4):
            own = around[:, first]
            new = (own > 0) & (own != FOREIGN) & (around[:, :first] != own[:, None]).all(1)
            code = ((around[new] == own[new, None]) * (1, 2, 4, 8)).sum(1)
            for number in range(2):
                start, stop = _TABLE[code, number].T
                real = start != _NONE
                self._keep(band, own[new][real], rows[new][real], columns[new][real], start[real], stop[real])

    def _keep(self, band: Band, own: Array, rows: Array, columns: Array, start: Array, stop: Array) -> None:
        if not len(own):
            return
        cells = np.stack([rows, columns], 1)
        ends = cells[:, None] + _ENDS[start]
        self._owners.append(own)
        self._starts.append(self._edges(band, ends))
        self._stops.append(self._edges(band, cells[:, None] + _ENDS[stop]))
        self._points.append(self._crossings(band, ends))

    def _edges(self, band: Band, ends: Array) -> Array:
        """The number of the edge between two neighbouring nodes ``(n, 2, 2)`` in the map."""
        row, column = ends[:, 0, 0] + band.row, ends[:, 0, 1] + band.column
        down = ends[:, 1, 0] > ends[:, 0, 0]
        return 2 * (row.astype(np.int64) * len(self._x) + column) + down

    def _crossings(self, band: Band, ends: Array) -> Array:
        """Where the outline crosses edges: x, y, level-0 pixels ``(n, 2)``."""
        first, second = (ends[:, 0, 0], ends[:, 0, 1]), (ends[:, 1, 0], ends[:, 1, 1])
        own, other = self._distance(band, first, second), self._distance(band, second, first)
        share = own / (own + other)
        row, column = ends[..., 0] + band.row, ends[..., 1] + band.column
        outside = (row == 0) | (row == len(self._y) - 1) | (column == 0) | (column == len(self._x) - 1)
        share = np.where(outside[:, 0], 0.0, np.where(outside[:, 1], 1.0, share))
        x, y = self._x[column], self._y[row]
        return np.stack([x[:, 0] + share * (x[:, 1] - x[:, 0]), y[:, 0] + share * (y[:, 1] - y[:, 0])], 1)

    def _distance(self, band: Band, first: tuple[Array, Array], second: tuple[Array, Array]) -> Array:
        """How far the probability lies from its threshold: of a node's own class, or of its neighbour's where it has
        none."""
        cls = np.where(band.labels[first] > 0, band.classes[first], band.classes[second])
        return np.maximum(np.abs(band.values[cls, first[0], first[1]] - self._limits[cls]), LEAST)

    def polygons(self, owner_of: Array, wanted: Array) -> tuple[Array, Array]:
        """The outlines as areas, holes kept.

        Args:
            owner_of: the object that each label belongs to, by label ``(labels + 1,)``.
            wanted: whether an object is requested, bool by object.

        Returns:
            Objects in ascending order, and the area of each.
        """
        if not self._owners:
            return np.zeros(0, np.int64), np.empty(0, object)
        owner = owner_of[np.concatenate(self._owners)]
        keep = wanted[owner]
        owner = owner[keep]
        if not len(owner):
            return np.zeros(0, np.int64), np.empty(0, object)
        start, stop = np.concatenate(self._starts)[keep], np.concatenate(self._stops)[keep]
        points = np.concatenate(self._points)[keep]
        order, first, lengths = _rings(owner, start, stop)
        rings = shapely.linearrings(points[order], indices=np.repeat(np.arange(len(first)), lengths))
        owners = owner[order[first]]
        # with y down a shell, whose inside is on the right, runs counter-clockwise as shapely counts
        by_object = np.lexsort((~shapely.is_ccw(rings), owners))
        objects, index = np.unique(owners[by_object], return_inverse=True)
        return objects, shapely.polygons(rings[by_object], indices=index)


def _rings(owner: Array, start: Array, stop: Array) -> tuple[Array, Array, Array]:
    """Segments in the order of closed rings, each from its first edge on; where each begins, and its length."""
    edges = np.unique(start)
    of = np.unique(owner, return_inverse=True)[1]
    keys = of * len(edges) + np.searchsorted(edges, start)
    order = np.argsort(keys)
    wanted = of[order] * len(edges) + np.searchsorted(edges, stop[order])
    following = np.searchsorted(keys[order], wanted).tolist()
    seen = bytearray(len(following))
    path: list[int] = []
    lengths: list[int] = []
    for begin in range(len(following)):
        if seen[begin]:
            continue
        at, before = begin, len(path)
        while not seen[at]:
            seen[at] = 1
            path.append(at)
            at = following[at]
        lengths.append(len(path) - before)
    sizes = np.asarray(lengths)
    return order[path], np.cumsum(sizes) - sizes, sizes
