"""ASAP's XML (Radboud): polygons, dots and point sets in named groups; no holes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree  # for writing; reading is hardened

import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.formats.frame import Problems, SlideFrame, number, polygon, simple_parts, telling
from stainda.annotations.guarded import read_xml
from stainda.annotations.records import ShapeRecords, make_records
from stainda.errors import AnnotationError
from stainda.files import whole_file

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import geopandas as gpd


def looks_like(path: Path, head: str) -> bool:
    return "<ASAP_Annotations" in head


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    """The group is the class (``None``: unclassified), the name the name."""
    geometries, classes, names = [], [], []
    for element in read_xml(path).iter("Annotation"):
        name, group = element.get("Name", ""), element.get("PartOfGroup", "None")
        cls = "" if group == "None" else group
        with telling(problems, name, cls):
            geometries.append(_geometry(element, name, path))
            classes.append(cls)
            names.append(name)
    return make_records(geometries, classes, name=names)


def _geometry(element: Element, name: str, path: Path) -> BaseGeometry:
    kind = element.get("Type", "")
    corners = [
        (int(number(c.get("Order", 0), path, "Order")), number(c.get("X"), path, "X"), number(c.get("Y"), path, "Y"))
        for c in element.iter("Coordinate")
    ]
    points = [(x, y) for _, x, y in sorted(corners, key=lambda corner: corner[0])]
    if kind in ("Polygon", "Spline", "Rectangle"):
        return polygon(points, path, f"annotation {name!r}")
    if kind in ("Dot", "PointSet") and points:
        return shapely.Point(points[0]) if len(points) == 1 else shapely.MultiPoint(points)
    raise AnnotationError(f"annotation {name!r} has the unknown type {kind!r}", file=path)


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for cls in dict.fromkeys(name for name in shapes["class"] if name):
        ElementTree.SubElement(groups, "Group", Name=cls, PartOfGroup="None", Color="#64FE2E")
    rows = [(row, part) for row, part in simple_parts(shapes) if part.geom_type == "Polygon"]
    points = [(row, row["geometry"]) for row in shapes.to_dict("records") if "Point" in row["geometry"].geom_type]
    for row, geometry in rows + points:
        ring = geometry.exterior.coords[:-1] if geometry.geom_type == "Polygon" else shapely.get_coordinates(geometry)
        kind = "Polygon" if geometry.geom_type == "Polygon" else "Dot" if len(ring) == 1 else "PointSet"
        element = ElementTree.SubElement(
            annotations, "Annotation", Name=row["name"], Type=kind, PartOfGroup=row["class"] or "None", Color="#F4FA58"
        )
        corners = ElementTree.SubElement(element, "Coordinates")
        for order, (x, y) in enumerate(ring):
            ElementTree.SubElement(corners, "Coordinate", Order=str(order), X=repr(float(x)), Y=repr(float(y)))
    with whole_file(path) as aside:
        ElementTree.ElementTree(root).write(aside, encoding="utf-8", xml_declaration=True)
