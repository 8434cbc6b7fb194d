"""Propagated shapes against a target's own annotations: scoring, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from stainda.arrays import Array
from stainda.objects.assignment import assign
from stainda.objects.linking import near
from stainda.objects.overlap import areas, dice_pairs

ALONE_UM, ALONE_PX = 10.0, 40.0
"""How far apart one propagated and one own point may lie to be one where there is no other: micrometres, and level-0
pixels where the pixel size is not known."""


def compare(
    target: str, propagated: gpd.GeoDataFrame, own: gpd.GeoDataFrame, mpp: float | None = None
) -> list[dict[str, Any]]:
    """Match propagated areas with the target's own of the same class, one to one, by the largest sum of Dice.

    Args:
        mpp: micrometres per level-0 pixel of the target, where known.

    Returns:
        Rows of agreement.csv. ``found`` is ``both``, ``propagated only`` or ``own only``; the latter two have Dice 0
        and no distance. Points and lines have no Dice: they are matched by distance, as near as
        :func:`stainda.objects.linking.near` has it, and their Dice is empty.
    """
    rows: list[dict[str, Any]] = []
    classes = dict.fromkeys([*own["class"], *propagated["class"]])
    for cls in classes:
        for areal in (True, False):
            mine = _of_kind(propagated[propagated["class"] == cls], areal)
            theirs = _of_kind(own[own["class"] == cls], areal)
            rows += _matched(target, str(cls), mine, theirs, areal, alone=ALONE_PX if mpp is None else ALONE_UM / mpp)
    return rows


def _of_kind(shapes: gpd.GeoDataFrame, areal: bool) -> gpd.GeoDataFrame:
    return shapes[(areas(shapes) > 0) == areal]


def _matched(
    target: str, cls: str, mine: gpd.GeoDataFrame, theirs: gpd.GeoDataFrame, areal: bool, *, alone: float
) -> list[dict[str, Any]]:
    first, second = np.asarray(mine.geometry), np.asarray(theirs.geometry)
    pairs = _pairs(first, second, areal, alone)
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
            pair = pairs[i]
            row |= {"found": "both", "own_id": theirs.iloc[pair.own]["id"]}
            row["centroid_distance_px"] = round(pair.distance, 3)
            row["dice"] = None if pair.dice is None else round(pair.dice, 4)
        rows.append(row)
    for j in sorted(set(range(len(theirs))) - {pair.own for pair in pairs.values()}):
        own_id = theirs.iloc[j]["id"]
        rows.append(
            {"target": target, "class": cls, "id": own_id, "own_id": own_id, "found": "own only", "dice": nothing}
        )
    return rows


@dataclass(frozen=True)
class _Pair:
    """The target's own shape that a propagated one is matched with, their Dice (of areas), and the distance of their
    centroids, level-0 pixels."""

    own: int
    dice: float | None
    distance: float


def _pairs(first: Array, second: Array, areal: bool, alone: float) -> dict[int, _Pair]:
    """By the index of the propagated shape."""
    if not len(first) or not len(second):
        return {}
    if areal:
        rows, columns, overlap = dice_pairs(first, second)
        distance = _distances(first[rows], second[columns])
        # the distance decides between equal overlaps only
        chosen = assign(rows, columns, np.maximum(overlap - 1e-9 * distance, 1e-12))
    else:
        rows, columns, worth = near(first, second, alone)
        distance, overlap = _distances(first[rows], second[columns]), None
        chosen = assign(rows, columns, worth, most_pairs=True)
    return {
        int(rows[k]): _Pair(int(columns[k]), None if overlap is None else float(overlap[k]), float(distance[k]))
        for k in chosen
    }


def _distances(first: Array, second: Array) -> Array:
    """Distances (n,) between the centroids of pairs, level-0 pixels."""
    a, b = (shapely.get_coordinates(shapely.centroid(some)).reshape(-1, 2) for some in (first, second))
    return np.linalg.norm(a - b, axis=1)
