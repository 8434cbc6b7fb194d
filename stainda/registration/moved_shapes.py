"""Warping of shapes by any function of points, with repair of invalid results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import shapely

from stainda.arrays import Array
from stainda.objects.moving import moved_geometries

if TYPE_CHECKING:
    import geopandas as gpd


def move_shapes(shapes: gpd.GeoDataFrame, move: Callable[[Array], Array]) -> gpd.GeoDataFrame:
    """All geometries moved by a function of points (n, 2) in one call; every other column is kept as it is.

    See :func:`stainda.registration.map_shapes`. A geometry of which a point has no place comes out empty;
    ``attrs["nowhere"]`` counts them.
    """
    import geopandas as gpd

    geometries = np.asarray(shapes.geometry.array, dtype=object)
    z_dropped = int(np.count_nonzero(shapely.has_z(geometries)))
    warped, nowhere = moved_geometries(geometries, move)
    broken = ~shapely.is_valid(warped) & ~shapely.is_missing(warped)
    if broken.any():
        warped[broken] = [same_kind(geometry) for geometry in shapely.make_valid(warped[broken])]
    result = shapes.copy()
    result[shapes.geometry.name] = gpd.GeoSeries(list(warped), index=shapes.index, crs=None)
    result.attrs |= {"z_dropped": z_dropped, "repaired": int(broken.sum()), "nowhere": len(nowhere)}
    return result


def same_kind(geometry: shapely.Geometry) -> shapely.Geometry:
    """The polygons of a repaired geometry, without the lines and points a repair leaves behind."""
    if geometry.geom_type != "GeometryCollection":
        return geometry
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if parts else geometry
