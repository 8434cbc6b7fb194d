"""Propagated shapes against a target's own annotations: scoring, and nothing else."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from scipy.optimize import linear_sum_assignment

AGREEMENT_COLUMNS = (
    "target", "class", "id", "dice", "centroid_distance_px", "own_id", "source", "found", "confidence",
)  # fmt: skip


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
    return shapes[(shapely.area(np.asarray(shapes.geometry)) > 0) == areal]


def _matched(
    target: str, cls: str, mine: gpd.GeoDataFrame, theirs: gpd.GeoDataFrame, areal: bool
) -> list[dict[str, Any]]:
    first, second = np.asarray(mine.geometry), np.asarray(theirs.geometry)
    distance = _distances(first, second)
    dice = _dice(first, second) if areal else np.full(distance.shape, np.nan)
    # of pairs without overlap none is a match; the distance decides between equal overlaps only
    cost = -dice + 1e-9 * distance if areal else distance
    pairs = dict(zip(*linear_sum_assignment(cost), strict=True)) if cost.size else {}
    if areal:
        pairs = {i: j for i, j in pairs.items() if dice[i, j] > 0}
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


def _dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dice (n, m) of all pairs of areas; only pairs whose boxes meet are intersected."""
    dice = np.zeros((len(first), len(second)))
    if not dice.size:
        return dice
    first, second = shapely.make_valid(first), shapely.make_valid(second)
    i, j = shapely.STRtree(second).query(first)
    total = shapely.area(first)[i] + shapely.area(second)[j]
    dice[i, j] = 2 * shapely.area(shapely.intersection(first[i], second[j])) / np.maximum(total, 1e-12)
    return dice


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distances (n, m) between centroids, level-0 pixels."""
    a = shapely.get_coordinates(shapely.centroid(first)).reshape(-1, 1, 2)
    b = shapely.get_coordinates(shapely.centroid(second)).reshape(1, -1, 2)
    return np.linalg.norm(a - b, axis=2)
