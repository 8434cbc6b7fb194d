"""Repair of shapes: valid, with area, inside the slide, without duplicates; every change is a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.records import ShapeRecords, as_objects, as_uuid
from stainda.run_directory.tables import REPAIRS

if TYPE_CHECKING:
    import geopandas as gpd

REPAIR_COLUMNS = REPAIRS.without("slide", "annotator")


def repair(
    shapes: gpd.GeoDataFrame, size: tuple[int, int] | None = None
) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    """Correct what can be mended and drop what cannot be used.

    Polygons that cross themselves are rebuilt (``make_valid``; only areas are kept), those across the edge of the
    slide clipped to it; shapes without geometry, without area, outside the slide, and exact duplicates of one class
    are dropped; an id used twice is replaced at its second use.

    Args:
        size: the slide's width and height, level-0 pixels; ``None`` leaves positions unchecked.

    Returns:
        The shapes with a fresh index, and one row (:data:`REPAIR_COLUMNS`) per change: ``mended`` or ``dropped``.
    """
    import geopandas as gpd

    kept, geometries, ids, rows = _mend(shapes.geometry, shapes["class"], shapes["id"], size)
    repaired = shapes.iloc[kept].reset_index(drop=True)
    repaired["id"] = np.array(ids, dtype=object)
    return repaired.set_geometry(gpd.GeoSeries(geometries, index=repaired.index)), rows


def repair_records(
    records: ShapeRecords, size: tuple[int, int] | None = None
) -> tuple[ShapeRecords, list[dict[str, str]]]:
    """As :func:`repair`, of records."""
    kept, geometries, ids, rows = _mend(records.geometries, records.classes, records.ids, size)
    return records.take(kept).replaced(geometries=as_objects(geometries), ids=as_objects(ids)), rows


def split_points(records: ShapeRecords) -> tuple[ShapeRecords, list[dict[str, str]]]:
    """Records with every set of several points (a ``MultiPoint``) as that many points: each is an object of its own.

    QuPath keeps all clicks of one points annotation in such a set. Each point has the columns of its set, and an id
    that is derived from the set's.

    Returns:
        The records in order, and one row (:data:`REPAIR_COLUMNS`) per set.
    """
    counts = np.where(
        shapely.get_type_id(records.geometries) == _MULTIPOINT, shapely.get_num_geometries(records.geometries), 1
    )
    sets = counts > 1
    if not sets.any():
        return records, []
    rows = [
        {"id": str(identity), "class": str(cls), "action": "mended", "reason": f"set of {count} points split"}
        for identity, cls, count in zip(records.ids[sets], records.classes[sets], counts[sets], strict=True)
    ]
    geometries: list[BaseGeometry] = []
    ids: list[str] = []
    for geometry, identity, several, count in zip(records.geometries, records.ids, sets, counts, strict=True):
        geometries += list(shapely.get_parts(geometry)) if several else [geometry]
        ids += [as_uuid(f"{identity}/{number}") for number in range(1, count + 1)] if several else [identity]
    split = records.take(np.repeat(np.arange(len(records)), counts))
    properties = as_objects([dict(entry) for entry in split.properties])
    return split.replaced(geometries=as_objects(geometries), ids=as_objects(ids), properties=properties), rows


_MULTIPOINT = 4
"""What ``shapely.get_type_id`` says of a ``MultiPoint``."""


def _mend(
    shapes: Iterable[BaseGeometry | None],
    classes: Iterable[str],
    identities: Iterable[str],
    size: tuple[int, int] | None,
) -> tuple[list[int], list[BaseGeometry], list[str], list[dict[str, str]]]:
    """Positions of the shapes that are kept, their geometries and ids, and the rows of what was changed."""
    rows: list[dict[str, str]] = []
    kept: list[int] = []
    geometries: list[BaseGeometry] = []
    ids: list[str] = []
    seen_shapes: set[tuple[str, bytes]] = set()
    seen_ids: set[str] = set()
    frame = None if size is None else shapely.box(0, 0, *size)
    for index, (geometry, cls, identity) in enumerate(zip(shapes, classes, identities, strict=True)):

        def tell(action: str, reason: str, cls: str = cls, identity: str = identity) -> None:
            rows.append({"id": str(identity), "class": str(cls), "action": action, "reason": reason})

        if geometry is None or geometry.is_empty:
            tell("dropped", "no geometry")
            continue
        if not np.isfinite(shapely.get_coordinates(geometry)).all():
            tell("dropped", "coordinates that are no numbers")
            continue
        if not geometry.is_valid:
            reason = shapely.is_valid_reason(geometry).split("[")[0].lower()
            geometry = _valid(geometry)
            if geometry.is_empty:
                tell("dropped", f"no area ({reason})")
                continue
            tell("mended", f"invalid ({reason})")
        if frame is not None and not frame.contains(geometry):
            inside = _same_dimension(shapely.intersection(geometry, frame), geometry)
            if inside.is_empty:
                tell("dropped", "outside the slide")
                continue
            if not frame.covers(geometry):
                tell("mended", "clipped to the slide")
                geometry = inside
        if geometry.geom_type in ("Polygon", "MultiPolygon") and geometry.area <= 0:
            tell("dropped", "no area")
            continue
        content = (str(cls), shapely.to_wkb(shapely.normalize(geometry)))
        if content in seen_shapes:
            tell("dropped", "the same shape and class as an earlier one")
            continue
        seen_shapes.add(content)
        unique = identity
        while unique in seen_ids:
            unique = as_uuid(f"{unique}+")
        if unique != identity:
            tell("mended", f"its id was taken; it is now {unique}")
        seen_ids.add(unique)
        kept.append(index)
        geometries.append(geometry)
        ids.append(unique)
    return kept, geometries, ids, rows


def _valid(geometry: BaseGeometry) -> BaseGeometry:
    return _same_dimension(shapely.make_valid(geometry), geometry)


def _same_dimension(geometry: BaseGeometry, like: BaseGeometry) -> BaseGeometry:
    """Only the parts of ``geometry`` of the dimension of ``like``: an area clipped to a line is gone."""
    wanted = shapely.get_dimensions(like)
    if shapely.get_dimensions(geometry) == wanted and geometry.geom_type != "GeometryCollection":
        return geometry
    parts = [part for part in _leaves(geometry) if shapely.get_dimensions(part) == wanted and not part.is_empty]
    if wanted == 2:
        return shapely.union_all(parts) if parts else shapely.Polygon()
    if not parts:
        return shapely.Point()
    if len(parts) == 1:
        return parts[0]
    return shapely.MultiPoint(parts) if wanted == 0 else shapely.MultiLineString(parts)


def _leaves(geometry: BaseGeometry) -> list[BaseGeometry]:
    if hasattr(geometry, "geoms"):
        return [leaf for part in geometry.geoms for leaf in _leaves(part)]
    return [geometry]
