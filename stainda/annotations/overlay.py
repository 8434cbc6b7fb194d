"""Overlay of the outlines of several annotators: faces of the overlay, and faces grouped into objects.

Faces are exact: no raster, hence no resolution and no memory that grows with the slide; what is needed grows with the
number of corners. Corners are snapped to a fine grid first, without which nearly equal outlines cannot be cut reliably.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from stainda.objects.overlap import iou_pairs

Geometries = NDArray[np.object_]
Numbers = NDArray[np.int64]


def clusters(geometries: Geometries) -> Numbers:
    """A number (n,) from 0 on for each set of geometries that hang together by touching."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    i, j = shapely.STRtree(geometries).query(geometries, predicate="intersects")
    graph = coo_matrix((np.ones(len(i), np.int8), (i, j)), shape=(len(geometries),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def same_objects(geometries: Geometries, owners: Numbers, least: float) -> Numbers:
    """A number (n,) from 0 on for each object: the outlines of different owners that mean the same thing.

    Pairs are joined from the largest overlap down, as long as an object keeps at most one outline of each owner; so one
    large outline around two objects of the others joins the one it fits better, and no chain of half overlaps makes one
    object of many.

    Args:
        owners: (n,) who drew each.
        least: intersection over union from which two outlines can be the same object.
    """
    i, j, iou = iou_pairs(geometries, geometries)
    may = (i < j) & (owners[i] != owners[j]) & (iou >= least)
    i, j, iou = i[may], j[may], iou[may]
    root = list(range(len(geometries)))
    drawn_by = [{int(owner)} for owner in owners]

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for pair in np.lexsort((j, i, -iou)):
        a, b = find(int(i[pair])), find(int(j[pair]))
        if a != b and not drawn_by[a] & drawn_by[b]:
            a, b = min(a, b), max(a, b)
            root[b] = a
            drawn_by[a] |= drawn_by[b]
    return np.unique([find(index) for index in range(len(root))], return_inverse=True)[1].astype(np.int64)


def cut_into_faces(geometries: Geometries, grid: float) -> tuple[Geometries, NDArray[np.bool_]]:
    """The pieces that the outlines of some areas cut each other into.

    Args:
        geometries: (n,) valid areas.
        grid: corners are moved to multiples of it; slivers narrower than it vanish.

    Returns:
        Faces (m,), which do not overlap and together fill all areas, and which area each lies in, bool (m, n).
    """
    if len(geometries) == 1:
        return geometries, np.ones((1, 1), bool)
    snapped = shapely.set_precision(geometries, grid)
    noded = shapely.union_all(shapely.boundary(snapped), grid_size=grid)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(noded)))
    inside = np.zeros((len(faces), len(geometries)), bool)
    within, of = shapely.STRtree(snapped).query(shapely.point_on_surface(faces), predicate="intersects")
    inside[within, of] = True
    filled = inside.any(axis=1)
    return faces[filled], inside[filled]


def only_areas(geometry: BaseGeometry) -> BaseGeometry:
    """The areas of a geometry, without the lines and points that repairing or cutting leaves behind."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = [only_areas(part) for part in shapely.get_parts(geometry)] if hasattr(geometry, "geoms") else []
    return shapely.union_all(np.array(parts, dtype=object))


def joined(faces: Sequence[BaseGeometry] | Geometries) -> BaseGeometry:
    """Faces as one area, without the corners that only the cuts needed."""
    return shapely.simplify(shapely.union_all(np.asarray(faces, object)), 0)
