"""Propagated shapes against a target's own annotations: scoring, and nothing else."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from stainda.arrays import Array
from stainda.objects.assignment import assign
from stainda.objects.overlap import areas, dice_pairs


def compare(target: str, propagated: gpd.GeoDataFrame, own: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    """Match propagated areas with the target's own of the same class, one to one, by the largest sum of Dice.

    Returns:
        Rows of agreement.csv. ``found`` is ``both``, ``propagated only`` or ``own only``; the latter two have Dice 0
        and no distance. Points and lines have no Dice: they are matched by distance, and their Dice is empty.
    """
    rows: list[dict[str, Any]] = []
    classes = dict.fromkeys([*own["class"], *propagated["class"]])
    for cls in classes:
        for areal in (True, False):
            mine = _of_kind(propagated[propagated["class"] == cls], areal)
            theirs = _of_kind(own[own["class"] == cls], areal)
            rows += _matched(target, str(cls), mine, theirs, areal)
    return rows


def _of_kind(shapes: gpd.GeoDataFrame, areal: bool) -> gpd.GeoDataFrame:
    return shapes[(areas(shapes) > 0) == areal]


def _matched(
    target: str, cls: str, mine: gpd.GeoDataFrame, theirs: gpd.GeoDataFrame, areal: bool
) -> list[dict[str, Any]]:
    first, second = np.asarray(mine.geometry), np.asarray(theirs.geometry)
    distance = _distances(first, second)
    pairs, dice = (_by_overlap if areal else _by_distance)(first, second, distance)
    nothing = 0.0 if areal else None
    rows: list[dict[str, Any]] = []
    for i in range(len(mine)):
        shape = mine.iloc[i]
        row = {
            "target": target,
            "class": cls,
            "id": shape["id"],
            "source": shape["source_slide"],
            "confidence": round(float(shape["confidence"]), 4),
            "found": "propagated only",
            "dice": nothing,
        }
        if i in pairs:
            j = pairs[i]
            row |= {"found": "both", "own_id": theirs.iloc[j]["id"], "centroid_distance_px": round(distance[i, j], 3)}
            row["dice"] = round(float(dice[i, j]), 4) if areal else None
        rows.append(row)
    for j in sorted(set(range(len(theirs))) - set(pairs.values())):
        own_id = theirs.iloc[j]["id"]
        rows.append(
            {"target": target, "class": cls, "id": own_id, "own_id": own_id, "found": "own only", "dice": nothing}
        )
    return rows


Pairs = tuple[dict[int, int], Array]
"""Index of the first -> index of the second, and the Dice (n, m) of all pairs."""


def _by_overlap(first: Array, second: Array, distance: Array) -> Pairs:
    rows, columns, overlap = dice_pairs(first, second)
    dice = np.zeros(distance.shape)
    dice[rows, columns] = overlap
    # the distance decides between equal overlaps only
    chosen = assign(rows, columns, np.maximum(overlap - 1e-9 * distance[rows, columns], 1e-12))
    return dict(zip(rows[chosen].tolist(), columns[chosen].tolist(), strict=True)), dice


def _by_distance(first: Array, second: Array, distance: Array) -> Pairs:
    rows, columns = np.indices(distance.shape).reshape(2, -1)
    worth = 1 - distance.ravel() / (2 * max(float(distance.max(initial=0.0)), 1e-12))
    chosen = assign(rows, columns, worth, most_pairs=True)
    pairs = dict(zip(rows[chosen].tolist(), columns[chosen].tolist(), strict=True))
    return pairs, np.full(distance.shape, np.nan)


def _distances(first: Array, second: Array) -> Array:
    """Distances (n, m) between centroids, level-0 pixels."""
    a = shapely.get_coordinates(shapely.centroid(first)).reshape(-1, 1, 2)
    b = shapely.get_coordinates(shapely.centroid(second)).reshape(1, -1, 2)
    return np.linalg.norm(a - b, axis=2)
