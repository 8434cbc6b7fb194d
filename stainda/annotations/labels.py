"""Vectorisation of label images: separate objects and their exact outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import shapely

from stainda.annotations.shapes import make_shapes
from stainda.arrays import Array
from stainda.objects.necks import cut_at_necks

if TYPE_CHECKING:
    import geopandas as gpd

_EAST, _SOUTH, _WEST, _NORTH = range(4)
_SCREEN_HOLE = False  # clockwise on the screen (y down) is counter-clockwise to shapely (y up)


def instances(mask: Array, min_px: float = 0, split_touching: bool = False) -> Array:
    """Number the separate objects of a mask.

    Args:
        mask: bool (h, w).
        min_px: objects of fewer pixels are left out.
        split_touching: cut objects at their necks, see :func:`stainda.objects.necks.cut_at_necks`.

    Returns:
        int32 (h, w): 0 background, objects 1…n in the order of their first pixel; pixels of one object are connected
        over edges, not corners.
    """
    from skimage.measure import label
    from skimage.segmentation import relabel_sequential

    labels = label(np.asarray(mask, bool), connectivity=1)
    if split_touching:
        labels = cut_at_necks(labels)
    if min_px > 0:
        sizes = np.bincount(labels.ravel())
        labels = np.where((sizes >= min_px)[labels], labels, 0)
    return relabel_sequential(labels)[0].astype(np.int32)


def outlines(
    labels: Array,
    x: float = 0.0,
    y: float = 0.0,
    downsample: float = 1.0,
    scores: Mapping[int, float] | Sequence[float] | Array | None = None,
    cls: str = "",
) -> gpd.GeoDataFrame:
    """The outline of every positive label, along the edges of its pixels: :func:`rasterise` of it is the label again.

    Args:
        labels: int (h, w).
        x, y: level-0 position of the corner of the first pixel.
        downsample: level-0 pixels per pixel.
        scores: by label (a mapping), or by position with that of label n at n - 1.
        cls: the class of all shapes.

    Returns:
        One valid shape per label, in ascending order of labels, holes kept; a label in several pieces (or touching
        itself over a corner only) is a MultiPolygon. ``properties["label"]`` holds the label.
    """
    labels = np.asarray(labels)
    values, geometries = trace(labels, (x, y), downsample)
    score: list[float] | None = None
    if scores is not None:
        score = [float(scores[value] if isinstance(scores, Mapping) else scores[value - 1]) for value in values]
    return make_shapes(geometries, cls, score=score, properties=[{"label": value} for value in values])


def trace(labels: Array, corner: tuple[float, float] = (0.0, 0.0), downsample: float = 1.0) -> tuple[list[int], Array]:
    """The positive labels of :func:`outlines` in ascending order, and the outline of each, object (n,).

    Args:
        labels: int (h, w). corner: level-0 position of that of the first pixel. downsample: level-0 pixels per pixel.

    Straight runs of pixel edges are directed with the piece on their right (in image coordinates). Each run continues
    with the right turn where there is one: pixels that touch over a corner are thus kept apart, and the rings of one
    piece of 4-connected pixels never cross; where a ring touches itself it is cut into two.
    """
    from skimage.measure import label

    if labels.size == 0 or labels.max() <= 0:
        return [], np.empty(0, object)
    pieces = label(np.where(labels > 0, labels, 0), connectivity=1, background=0).astype(np.int64)
    runs = [_runs(pieces, _EAST), _runs(pieces, _SOUTH), _runs(pieces, _WEST), _runs(pieces, _NORTH)]
    start, stop, piece, direction = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    following = _following(start, stop, piece, direction, pieces.shape)
    rings = _rings(following, start[:, 0] * (pieces.shape[1] + 1) + start[:, 1])
    lengths = np.array([len(ring) for ring in rings])
    flat = np.concatenate([np.array(ring) for ring in rings])
    first = np.cumsum(lengths) - lengths
    points = start[flat, ::-1] * float(downsample) + corner
    owner = piece[flat[first]]
    ring_of = np.repeat(np.arange(len(rings)), lengths)
    linear = shapely.linearrings(points, indices=ring_of)
    # the shell of a piece runs clockwise on the screen, its holes the other way; shells first, as shapely wants them
    order = np.lexsort((shapely.is_ccw(linear) == _SCREEN_HOLE, owner))
    polygons = shapely.polygons(linear[order], indices=owner[order] - 1)
    labels_found, where = np.unique(pieces, return_index=True)
    label_of = labels.ravel()[where[labels_found > 0]]
    values, group = np.unique(label_of, return_inverse=True)
    by_label = np.argsort(group, kind="stable")
    merged = shapely.multipolygons(polygons[by_label], indices=group[by_label])
    alone = shapely.get_num_geometries(merged) == 1
    merged[alone] = shapely.get_geometry(merged[alone], 0)
    return [int(value) for value in values], merged


def _runs(pieces: Array, direction: int) -> tuple[Array, Array, Array, Array]:
    """Maximal straight runs of pixel edges of one side: start and stop corners (row, column), piece, direction."""
    vertical = direction in (_SOUTH, _NORTH)
    grid = pieces.T if vertical else pieces  # runs lie along the second axis
    other = np.zeros_like(grid)
    # the piece lies on the right: below a run to the east, above one to the west, left of south, right of north
    after = direction in (_EAST, _NORTH)
    if after:
        other[1:] = grid[:-1]
    else:
        other[:-1] = grid[1:]
    side = np.where(grid != other, grid, 0)
    padded = np.zeros((side.shape[0], side.shape[1] + 1), side.dtype)
    padded[:, :-1] = side
    before = np.zeros_like(padded)
    before[:, 1:] = side
    change = padded != before
    row_start, column_start = np.nonzero(change & (padded > 0))
    row_stop, column_stop = np.nonzero(change & (before > 0))
    piece = padded[row_start, column_start]
    line = row_start + (0 if after else 1)
    low = np.stack([line, column_start], 1)
    high = np.stack([row_stop + (0 if after else 1), column_stop], 1)
    start, stop = (low, high) if direction in (_EAST, _SOUTH) else (high, low)
    if vertical:
        start, stop = start[:, ::-1], stop[:, ::-1]
    return start, stop, piece, np.full(len(piece), direction)


def _following(start: Array, stop: Array, piece: Array, direction: Array, shape: tuple[int, int]) -> Array:
    """The index of the run that continues each run: the right turn at its end, else the left one."""

    def key(corner: Array, heading: Array) -> Array:
        return ((piece * (shape[0] + 1) + corner[:, 0]) * (shape[1] + 1) + corner[:, 1]) * 4 + heading

    known = key(start, direction)
    order = np.argsort(known)
    ordered = known[order]

    def find(heading: Array) -> tuple[Array, Array]:
        wanted = key(stop, heading)
        at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
        return order[at], ordered[at] == wanted

    right, has_right = find((direction + 1) % 4)
    left, _ = find((direction - 1) % 4)
    return np.where(has_right, right, left)


def _rings(following: Array, corner: Array) -> list[list[int]]:
    """Closed rings of runs, each passing any corner at most once."""
    successor = following.tolist()
    corners = corner.tolist()
    seen = bytearray(len(successor))
    rings = []
    for first in range(len(successor)):
        if seen[first]:
            continue
        path: list[int] = []
        position: dict[int, int] = {}
        run = first
        while not seen[run]:
            seen[run] = 1
            at = position.get(corners[run])
            if at is not None:  # back at a corner: what lies between is a ring of its own
                rings.append(path[at:])
                for inner in path[at:]:
                    position.pop(corners[inner], None)
                del path[at:]
            position[corners[run]] = len(path)
            path.append(run)
            run = successor[run]
        rings.append(path)
    return rings
