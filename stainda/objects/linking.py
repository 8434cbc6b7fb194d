"""Linking of outlines of different sections that overlap in one frame, and so are one object."""

from __future__ import annotations

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import shapely

from stainda.arrays import Array
from stainda.objects.assignment import assign
from stainda.objects.overlap import areas, dice_pairs

LEAST_DICE = 0.1
"""Areas that overlap less are two objects. Of two concentric discs, one four times as wide as the other, the Dice is
0.12: a glomerulus cut near its pole and at its equator is still one."""

REACH = 0.5
"""Two points, or two lines, are one object when they lie nearer than this share of the distance to the next of their
own section, on average: nearer neighbours could not be distinguished."""


def match(first: Array, second: Array) -> dict[int, int]:
    """One to one, by the largest sum of Dice (areas) or the smallest sum of distances (points and lines).

    Solved exactly by the Hungarian method (Kuhn 1955) within every group of outlines that meet, so that thousands of
    objects cost what their groups cost.

    Args:
        first, second: geometries of one frame.

    Returns:
        index of ``first`` -> index of ``second``, of those that match.
    """
    pairs: dict[int, int] = {}
    for areal in (True, False):
        mine, theirs = (np.flatnonzero((areas(some) > 0) == areal) for some in (first, second))
        if not len(mine) or not len(theirs):
            continue
        i, j, gain = (near if not areal else _overlapping)(first[mine], second[theirs])
        for index in assign(i, j, gain):
            pairs[int(mine[i[index]])] = int(theirs[j[index]])
    return pairs


def link(tables: Sequence[gpd.GeoDataFrame]) -> list[Array]:
    """Give objects of several sections one identity.

    Args:
        tables: shapes of each section, all in one frame, sections in their order in the block. An object is compared
            with where it was last seen, so one that a section lacks is found again in the next.

    Returns:
        for each table the number of each shape's object, int (n,); equal numbers are one object. Of one table no two
        shapes have the same number, and classes never mix.
    """
    seen: dict[str, list[tuple[int, object]]] = {}
    numbers: list[Array] = []
    following = 0
    for table in tables:
        track_of_row = np.full(len(table), -1)
        for cls in dict.fromkeys(table["class"]):
            rows = np.flatnonzero((table["class"] == cls).to_numpy(bool))
            known = seen.setdefault(str(cls), [])
            before = np.array([geometry for _, geometry in known], dtype=object)
            geometries = np.asarray(table.geometry.values)[rows]
            for old, new in match(before, geometries).items():
                track_of_row[rows[new]] = known[old][0]
                known[old] = (known[old][0], geometries[new])
            for new, row in enumerate(rows):
                if track_of_row[row] < 0:
                    track_of_row[row] = following
                    known.append((following, geometries[new]))
                    following += 1
        numbers.append(track_of_row)
    return numbers


def _overlapping(first: Array, second: Array) -> tuple[Array, Array, Array]:
    i, j, dice = dice_pairs(first, second)
    enough = dice >= LEAST_DICE
    return i[enough], j[enough], dice[enough]


def near(first: Array, second: Array, alone: float = np.inf) -> tuple[Array, Array, Array]:
    """Pairs of points or lines that may be one object: indices of both (k,), and their worth (k,), 0 to 1.

    Args:
        alone: how far apart one of each may lie, where nothing says how far apart others of their section are.
    """
    from scipy.spatial import cKDTree

    a, b = (shapely.get_coordinates(shapely.centroid(some)).reshape(-1, 2) for some in (first, second))
    spacing = []
    for points in (a, b):
        if len(points) > 1:
            spacing.append(float(np.mean(cKDTree(points).query(points, k=2)[0][:, 1])))
    if not spacing:  # one of each: the same, as far as can be said
        same = np.arange(int(np.linalg.norm(a - b) <= alone))
        return same, same, np.ones(len(same))
    reach = REACH * float(np.mean(spacing))
    distances = cKDTree(a).sparse_distance_matrix(cKDTree(b), reach, output_type="coo_matrix")
    return distances.row, distances.col, 1.0 - distances.data / max(reach, 1e-12) * 0.999
