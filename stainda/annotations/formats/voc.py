"""Pascal VOC's XML: boxes with a class. Corners are taken as they stand, as edges in pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree  # for writing; reading is hardened

import shapely

from stainda.annotations.formats.frame import Problems, SlideFrame, number, telling
from stainda.annotations.guarded import read_xml
from stainda.annotations.records import ShapeRecords, make_records
from stainda.errors import AnnotationError
from stainda.files import whole_file

if TYPE_CHECKING:
    import geopandas as gpd

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def looks_like(path: Path, head: str) -> bool:
    return "<annotation>" in head and ("<object>" in head or "<folder>" in head or "<filename>" in head)


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    boxes, classes = [], []
    for index, element in enumerate(read_xml(path).iter("object"), start=1):
        cls = element.findtext("name", "")
        with telling(problems, f"object {index}", cls):
            box = element.find("bndbox")
            if box is None:
                raise AnnotationError(f"object {index} has no box", file=path)
            corners = [number(box.findtext(name), path, f"{name} of object {index}") for name in _CORNERS]
            boxes.append(shapely.box(*corners))
            classes.append(cls)
    return make_records(boxes, classes)


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = Path(getattr(slide, "path", path)).name
    if slide is not None:
        size = ElementTree.SubElement(root, "size")
        for name, value in zip(("width", "height", "depth"), (*slide.size, 3), strict=True):
            ElementTree.SubElement(size, name).text = str(value)
    for row in shapes.to_dict("records"):
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = row["class"]
        box = ElementTree.SubElement(element, "bndbox")
        for name, value in zip(_CORNERS, row["geometry"].bounds, strict=True):
            ElementTree.SubElement(box, name).text = f"{value:.17g}"
    with whole_file(path) as aside:
        ElementTree.ElementTree(root).write(aside, encoding="utf-8", xml_declaration=True)
