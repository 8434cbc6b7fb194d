"""labelme's JSON: polygons, points and lines; polygons of one group are one object; no holes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.formats.frame import Problems, SlideFrame, number, polygon, telling
from stainda.annotations.guarded import read_json
from stainda.annotations.records import ShapeRecords, make_records
from stainda.errors import AnnotationError
from stainda.files import write_json

if TYPE_CHECKING:
    import geopandas as gpd


def looks_like(path: Path, head: str) -> bool:
    return '"shapes"' in head and ('"shape_type"' in head or '"points"' in head or '"imagePath"' in head)


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    document = read_json(path)
    entries = document.get("shapes") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise AnnotationError("no labelme file (it has no list of shapes)", file=path)
    objects: dict[object, tuple[str, str, list[BaseGeometry]]] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise AnnotationError(f"shape {index + 1} is no labelme shape", file=path)
        label, group = str(entry.get("label") or ""), entry.get("group_id")
        key = (label, str(group)) if group is not None else index
        name = str(entry.get("description") or "")
        with telling(problems, f"shape {index + 1}", label):
            geometry = _geometry(entry, index, path)
            objects.setdefault(key, (label, name, []))[2].append(geometry)
    geometries = []
    for _, _, parts in objects.values():
        polygons = len(parts) > 1 and all(part.geom_type == "Polygon" for part in parts)
        points = len(parts) > 1 and all(part.geom_type == "Point" for part in parts)
        geometries.append(
            shapely.MultiPolygon(parts)
            if polygons
            else shapely.MultiPoint(parts)
            if points
            else shapely.union_all(parts)
        )
    values = list(objects.values())
    return make_records(geometries, [label for label, _, _ in values], name=[name for _, name, _ in values])


def _geometry(entry: Mapping[str, Any], index: int, path: Path) -> BaseGeometry:
    what = f"shape {index + 1}"
    raw = entry.get("points")
    if not isinstance(raw, list) or not raw or not all(isinstance(p, list) and len(p) >= 2 for p in raw):
        raise AnnotationError(f"{what} has no points", file=path)
    points = [(number(p[0], path, what), number(p[1], path, what)) for p in raw]
    kind = entry.get("shape_type", "polygon")
    if kind == "polygon":
        return polygon(points, path, what)
    if kind == "point":
        return shapely.Point(points[0])
    if kind in ("line", "linestrip") and len(points) > 1:
        return shapely.LineString(points)
    if kind == "rectangle" and len(points) >= 2:
        return shapely.MultiPoint(points).envelope
    if kind == "circle" and len(points) == 2:
        return shapely.Point(points[0]).buffer(shapely.Point(points[0]).distance(shapely.Point(points[1])))
    raise AnnotationError(f"{what} has the type {kind!r} with {len(points)} points, which is not read", file=path)


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    entries = []
    for group, row in enumerate(shapes.to_dict("records")):
        parts = shapely.get_parts(row["geometry"])
        for part in parts:
            area = part.geom_type == "Polygon"
            ring = part.exterior.coords[:-1] if area else part.coords
            entries.append(
                {
                    "label": row["class"],
                    "description": row["name"],
                    "points": [[float(x), float(y)] for x, y in ring],
                    "group_id": group if len(parts) > 1 else None,
                    "shape_type": "polygon" if area else "point" if part.geom_type == "Point" else "linestrip",
                    "flags": {},
                }
            )
    width, height = slide.size if slide is not None else (None, None)
    document: dict[str, Any] = {"version": "5.0.1", "flags": {}, "shapes": entries, "imagePath": "", "imageData": None,
                "imageWidth": width, "imageHeight": height}  # fmt: skip
    write_json(path, document)
