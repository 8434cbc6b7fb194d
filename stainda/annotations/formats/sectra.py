"""Sectra PathologyCore's JSON: areas and polylines, with coordinates as fractions of the slide's width.

Both axes have one unit: in real exports the stated area (mm²) and length (mm) of shapes give the same millimetres per
unit. That the unit is the width (not the longer side) is a convention of the vendor that no file here can confirm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.formats.frame import Problems, SlideFrame, number, polygon, require_size, simple_parts, telling
from stainda.annotations.guarded import read_json
from stainda.annotations.records import ShapeRecords, make_records
from stainda.errors import AnnotationError
from stainda.files import write_json

if TYPE_CHECKING:
    import geopandas as gpd

_WHY = "because Sectra counts in widths of the slide"


def looks_like(path: Path, head: str) -> bool:
    return '"content"' in head and '"type"' in head and '"x"' in head


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    """The name is the class: Sectra has no other."""
    width, _ = require_size(slide, path, _WHY)
    document = read_json(path)
    entries = [document] if isinstance(document, Mapping) else document
    if not isinstance(entries, list):
        raise AnnotationError("no list of Sectra annotations", file=path)
    geometries, classes, ids = [], [], []
    for index, entry in enumerate(entries):
        what = f"annotation {index + 1}"
        content = entry.get("content") if isinstance(entry, Mapping) else None
        if not isinstance(content, list) or not all(isinstance(point, Mapping) for point in content):
            raise AnnotationError(f"{what} is no Sectra annotation", file=path)
        cls, identity = str(entry.get("name") or ""), str(entry.get("id") or what)
        with telling(problems, identity, cls):
            geometries.append(_geometry(content, entry.get("type"), width, what, path))
            classes.append(cls)
            ids.append(identity)
    return make_records(geometries, classes, id=ids)


def _geometry(content: list[Mapping[str, Any]], kind: object, width: int, what: str, path: Path) -> BaseGeometry:
    points = [
        (width * number(point.get("x"), path, f"x of {what}"), width * number(point.get("y"), path, f"y of {what}"))
        for point in content
    ]
    if kind == "Area":
        return polygon(points, path, what)
    if kind == "Polyline" and len(points) > 1:
        return shapely.LineString(points)
    raise AnnotationError(f"{what} has the type {kind!r} with {len(points)} points, which is not read", file=path)


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    width, _ = require_size(slide, path, _WHY)
    entries: list[dict[str, Any]] = []
    used: set[str] = set()
    for row, part in simple_parts(shapes):
        area = part.geom_type == "Polygon"
        ring = np.asarray(part.exterior.coords[:-1] if area else part.coords, float) / width
        identity = str(row["id"])
        if identity in used:
            identity = f"{identity}/{len(entries) + 1}"
        used.add(identity)
        entries.append(
            {
                "id": identity,
                "type": "Area" if area else "Polyline",
                "name": row["class"] or None,
                "content": [{"x": x, "y": y} for x, y in ring[:, :2].tolist()],
            }
        )
    write_json(path, entries)
