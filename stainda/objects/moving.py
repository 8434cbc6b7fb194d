"""Geometries moved by a function of points that may give a point no place (NaN)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from stainda.arrays import Array

Geometries = NDArray[np.object_]


def moved_geometries(geometries: Any, move: Callable[[Array], Array]) -> tuple[Geometries, NDArray[np.intp]]:
    """Geometries (n,) moved in one call, without Z, and the indices of those that have no place.

    A transform of a section whose pieces were registered one by one gives the glass between them no place. A geometry
    with such a point comes out empty, of its own type.
    """
    flat = shapely.force_2d(np.asarray(geometries, dtype=object))
    coordinates, owner = shapely.get_coordinates(flat, return_index=True)
    there = move(coordinates) if len(coordinates) else coordinates
    nowhere = np.unique(owner[~np.isfinite(there).all(axis=1)])
    out = flat.copy()
    out[nowhere] = [shapely.from_wkt(f"{geometry.geom_type.upper()} EMPTY") for geometry in flat[nowhere]]
    placed = np.setdiff1d(np.arange(len(flat)), nowhere)
    out[placed] = shapely.set_coordinates(flat[placed], there[np.isin(owner, placed)])
    return out, nowhere
