"""Warping of shapes by any function of points, with repair of invalid results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from stainda.annotations.frames import NESTED
from stainda.arrays import Array
from stainda.objects.moving import moved_geometries
from stainda.registration.shapes_in_pieces import MapStep, cut_at_pieces

if TYPE_CHECKING:
    import geopandas as gpd


def move_shapes(
    shapes: gpd.GeoDataFrame, move: Callable[[Array], Array], steps: Sequence[MapStep] = ()
) -> gpd.GeoDataFrame:
    """All geometries moved by a function of points (n, 2) in one call; every other column is kept as it is,
    but for the nuclei of cells (:func:`moved_nuclei`).

    See :func:`stainda.registration.map_shapes`. A geometry of which a point has no place comes out empty;
    ``attrs["nowhere"]`` counts them. An area that reaches beyond one piece of tissue is cut where the pieces end, and
    what has a place is moved; ``attrs["cut"]`` counts these.

    Args:
        steps: the same map with its pieces of tissue, see :meth:`stainda.registration.maps.PointMap.steps`; without
            them nothing is cut.
    """
    import geopandas as gpd

    geometries = np.asarray(shapes.geometry.array, dtype=object)
    z_dropped = int(np.count_nonzero(shapely.has_z(geometries)))
    warped, _ = moved_geometries(geometries, move)
    cut = cut_at_pieces(geometries, steps)
    warped[cut.index] = cut.outlines
    nowhere = np.count_nonzero(shapely.is_empty(warped) & ~shapely.is_empty(geometries))
    broken = ~shapely.is_valid(warped) & ~shapely.is_missing(warped)
    if broken.any():
        warped[broken] = [same_kind(geometry) for geometry in shapely.make_valid(warped[broken])]
    result = shapes.copy()
    result[shapes.geometry.name] = gpd.GeoSeries(list(warped), index=shapes.index, crs=None)
    if "properties" in result:
        result["properties"] = moved_nuclei(list(shapes["properties"]), move)
    result.attrs |= {
        "z_dropped": z_dropped, "repaired": int(broken.sum()), "nowhere": int(nowhere),
        "cut": int((cut.shares > 0).sum()),
    }  # fmt: skip
    return result


def moved_nuclei(properties: Sequence[dict[str, Any]], move: Callable[[Array], Array]) -> list[dict[str, Any]]:
    """Properties of shapes with the nucleus that QuPath's cells hold moved too; one without a place is left out."""
    outlines = {}
    for k, entry in enumerate(properties):
        if isinstance(entry, dict) and entry.get(NESTED):
            try:
                outlines[k] = shapely.from_geojson(json.dumps(entry[NESTED]))
            except (shapely.GEOSException, TypeError, ValueError):
                outlines[k] = shapely.Polygon()  # no geometry: it has no place either
    if not outlines:
        return list(properties)
    there, _ = moved_geometries(list(outlines.values()), move)
    result = list(properties)
    for k, outline in zip(outlines, there, strict=True):
        result[k] = {name: value for name, value in properties[k].items() if name != NESTED}
        if not outline.is_empty:
            result[k][NESTED] = json.loads(shapely.to_geojson(outline))
    return result


def same_kind(geometry: shapely.Geometry) -> shapely.Geometry:
    """The polygons of a repaired geometry, without the lines and points a repair leaves behind."""
    if geometry.geom_type != "GeometryCollection":
        return geometry
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if parts else geometry
