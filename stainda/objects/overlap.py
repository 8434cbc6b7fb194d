"""Overlap of outlines: intersection over union and Dice of areas; used by the whole package."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Geometries = npt.NDArray[np.object_]


def polygons(shapes: Any) -> Geometries:
    """Object array of the geometries of shapes (a table or a sequence), broken ones made valid, ``None`` made empty."""
    values = shapes["geometry"] if hasattr(shapes, "columns") else shapes
    array = np.empty(len(values), object)
    array[:] = list(values)
    array[[geometry is None for geometry in array]] = shapely.Polygon()
    broken = ~shapely.is_valid(array)
    array[broken] = shapely.make_valid(array[broken])
    return array


def areas(shapes: Any) -> Floats:
    """Area of each shape, broken outlines made valid first: the two halves of a crossed one do not cancel."""
    return np.asarray(shapely.area(polygons(shapes)), float)


def iou_pairs(first: Any, second: Any, valid: bool = False) -> tuple[Numbers, Numbers, Floats]:
    """Indices i, j (k,) of all pairs of geometries that share some area, and their intersection over union (k,).

    Pairs are ordered by i. Empty geometries, points and lines share no area with anything. Broken outlines are made
    valid first, unless both are arrays from :func:`polygons` (``valid``).
    """
    i, j, common, total = _shared(first, second) if valid else _shared(polygons(first), polygons(second))
    return i, j, common / (total - common)


def dice_pairs(first: Any, second: Any) -> tuple[Numbers, Numbers, Floats]:
    """Indices i, j (k,) of all pairs of geometries that share some area, and their Dice ``2 |A ∩ B| / (|A| + |B|)``.

    As :func:`iou_pairs`, of which it is ``2 IoU / (1 + IoU)``.
    """
    i, j, common, total = _shared(polygons(first), polygons(second))
    return i, j, 2 * common / total


def dice(first: BaseGeometry, second: BaseGeometry) -> float:
    """Dice of two geometries: 0 where they share no area, ``nan`` where neither has any (points, lines, nothing)."""
    if not areas([first, second]).any():
        return float("nan")
    values = dice_pairs([first], [second])[2]
    return float(values[0]) if len(values) else 0.0


def _shared(mine: Geometries, theirs: Geometries) -> tuple[Numbers, Numbers, Floats, Floats]:
    """Index pairs that share some area, how much, and the sum of both areas."""
    if len(mine) == 0 or len(theirs) == 0:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, np.zeros(0), np.zeros(0)
    i, j = shapely.STRtree(theirs).query(mine, predicate="intersects")
    common = shapely.area(shapely.intersection(mine[i], theirs[j]))
    real = common > 0
    i, j, common = i[real], j[real], common[real]
    return i, j, common, shapely.area(mine)[i] + shapely.area(theirs)[j]
