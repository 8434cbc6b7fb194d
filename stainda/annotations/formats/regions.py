"""Layers of regions in XML: Aperio ImageScope and HALO, which differ in the names of types and corners.

A region with ``NegativeROA="1"`` is a hole in the regions of its layer that contain it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree  # for writing; reading is hardened

import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.formats.frame import (
    Problems,
    SlideFrame,
    ellipse,
    number,
    polygon,
    simple_parts,
    telling,
    valid_area,
)
from stainda.annotations.guarded import read_xml
from stainda.annotations.overlay import only_areas
from stainda.annotations.records import ShapeRecords, make_records
from stainda.errors import AnnotationError
from stainda.files import whole_file
from stainda.names import format_ending

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import geopandas as gpd


@dataclass(frozen=True)
class _Dialect:
    corner: str
    polygon: str
    line: str
    rectangles: tuple[str, ...]
    ellipses: tuple[str, ...]
    lines: tuple[str, ...]
    comment: str


_IMAGESCOPE = _Dialect("Vertex", "0", "4", ("1",), ("2",), ("3", "4"), "Text")
_HALO = _Dialect("V", "Polygon", "Ruler", ("Rectangle",), ("Ellipse",), ("Ruler", "Arrow", "Polyline"), "Text")


def imagescope_looks_like(path: Path, head: str) -> bool:
    return "<Annotations" in head and ("<Vertex" in head or "MicronsPerPixel" in head)


def halo_looks_like(path: Path, head: str) -> bool:
    return format_ending(path) == ".annotations" or ("<Annotations" in head and "<V " in head)


def _read(path: Path, slide: SlideFrame | None = None, problems: Problems = None, *, dialect: _Dialect) -> ShapeRecords:
    """The layer's name is the class; a region's text its name."""
    geometries: list[BaseGeometry] = []
    classes: list[str] = []
    names: list[str] = []
    for layer in read_xml(path).iter("Annotation"):
        cls = layer.get("Name") or next((a.get("Name", "") for a in layer.iter("Attribute") if a.get("Name")), "")
        positive: list[tuple[BaseGeometry, str, str]] = []
        negative: list[BaseGeometry] = []
        for region in layer.iter("Region"):
            identity = region.get("Id", "")
            with telling(problems, identity, cls):
                geometry = _geometry(region, path, dialect)
                if region.get("NegativeROA", "0").lower() in ("1", "true"):
                    negative.append(geometry)
                else:
                    positive.append((geometry, region.get(dialect.comment, ""), identity))
        holes = [area for area, _ in map(valid_area, negative) if area.area > 0]
        for geometry, name, identity in positive:
            with telling(problems, identity, cls):
                area = _with_holes(geometry, holes, path, identity)
                if problems is not None and area is not geometry and (reason := valid_area(geometry)[1]):
                    problems.append({"id": identity, "class": cls, "action": "mended", "reason": reason})
                geometries.append(area)
                classes.append(cls)
                names.append(name)
    return make_records(geometries, classes, name=names)


def _with_holes(geometry: BaseGeometry, holes: Sequence[BaseGeometry], path: Path, identity: str) -> BaseGeometry:
    """A region without the holes that it contains. One that crosses itself stays as it is where it has none: it is
    repaired, and listed, with all others."""
    area, _ = valid_area(geometry)
    if area.area <= 0:
        return geometry
    inside = [hole for hole in holes if area.contains(hole.representative_point())]
    for hole in inside:
        if area.geom_type == hole.geom_type == "Polygon" and area.contains(hole) and not hole.interiors:
            area = shapely.Polygon(area.exterior, [*area.interiors, hole.exterior])
        else:
            area = only_areas(shapely.difference(area, hole))
        area, _ = valid_area(area)  # a hole that touches the border
    if inside and area.area <= 0:
        raise AnnotationError(f"region {identity!r} is all hole", file=path, remedy="Delete it")
    return area if inside else geometry


def _geometry(region: Element, path: Path, dialect: _Dialect) -> BaseGeometry:
    what = f"region {region.get('Id', '')!r}"
    points = [
        (number(corner.get("X"), path, f"X of {what}"), number(corner.get("Y"), path, f"Y of {what}"))
        for corner in region.iter(dialect.corner)
    ]
    kind = region.get("Type", dialect.polygon)
    if kind in (*dialect.rectangles, *dialect.ellipses) and len(points) == 2:
        (x0, y0), (x1, y1) = points
        if kind in dialect.ellipses:
            return ellipse(x0, y0, x1, y1)
        return shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    if kind in dialect.lines:
        if len(points) < 2:
            raise AnnotationError(f"{what} is a line of {len(points)} points", file=path, remedy="Delete it")
        return shapely.LineString(points)
    return polygon(points, path, what)


def _write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None, dialect: _Dialect) -> None:
    root = ElementTree.Element("Annotations")
    rows = simple_parts(shapes)
    for layer_id, cls in enumerate(dict.fromkeys(row["class"] for row, _ in rows), start=1):
        layer = ElementTree.SubElement(root, "Annotation", Id=str(layer_id), Name=cls, LineColor="65280", Visible="1")
        regions = ElementTree.SubElement(layer, "Regions")
        region_id = 0
        for row, part in rows:
            if row["class"] != cls:
                continue
            area = part.geom_type == "Polygon"
            rings = [part.exterior, *part.interiors] if area else [part]
            for depth, ring in enumerate(rings):
                region_id += 1
                region = ElementTree.SubElement(regions, "Region", Id=str(region_id))
                region.set("Type", dialect.polygon if area else dialect.line)
                region.set("NegativeROA", str(int(depth > 0)))
                region.set(dialect.comment, row["name"] if depth == 0 else "")
                corners = ElementTree.SubElement(region, "Vertices")
                for x, y in ring.coords[: -1 if area else None]:
                    ElementTree.SubElement(corners, dialect.corner, X=repr(float(x)), Y=repr(float(y)))
    with whole_file(path) as aside:
        ElementTree.ElementTree(root).write(aside, encoding="utf-8", xml_declaration=True)


imagescope_read = functools.partial(_read, dialect=_IMAGESCOPE)
imagescope_write = functools.partial(_write, dialect=_IMAGESCOPE)
halo_read = functools.partial(_read, dialect=_HALO)
halo_write = functools.partial(_write, dialect=_HALO)
