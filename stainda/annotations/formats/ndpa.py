"""Hamamatsu's NDPA (XML of NDP.view): nanometres from the centre of the glass slide, x right, y down.

With (w, h) the size of the picture in pixels, m its µm per pixel, and (X, Y) the nanometres from the centre of the
glass to the centre of the picture (``XOffsetFromSlideCentre``, tags 65422 and 65423 of the .ndpi file)::

    x_px = (x_nm - X) / (1000 m) + w / 2,   y_px = (y_nm - Y) / (1000 m) + h / 2

Coordinates are whole nanometres, as NDP.view writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree  # for writing; reading is hardened

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.formats.frame import (
    WITH_SLIDE,
    Problems,
    SlideFrame,
    number,
    polygon,
    require_size,
    simple_parts,
    telling,
)
from stainda.annotations.guarded import read_xml
from stainda.annotations.records import ShapeRecords, make_records
from stainda.arrays import Array
from stainda.errors import AnnotationError
from stainda.files import whole_file
from stainda.names import format_ending

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import geopandas as gpd

_WHY = "because NDPA counts nanometres from the centre of the glass slide"
_OFFSET_TAGS = (65422, 65423)
_UNIT = "nanometers"


@dataclass(frozen=True)
class _Glass:
    """From nanometres on the glass to level-0 pixels: ``offset`` nm of the picture's centre, ``scale`` nm per pixel."""

    offset: Array
    centre: Array
    scale: float

    def pixels(self, nanometres: Any) -> Array:
        return (np.asarray(nanometres, float).reshape(-1, 2) - self.offset) / self.scale + self.centre

    def nanometres(self, pixels: Any) -> Array:
        return np.round((np.asarray(pixels, float)[:, :2] - self.centre) * self.scale + self.offset).astype(np.int64)


def _glass(slide: SlideFrame | None, path: Path) -> _Glass:
    size = require_size(slide, path, _WHY)
    mpp = getattr(slide, "mpp", None)
    if mpp is None:
        raise AnnotationError(f"the slide's pixel size is needed {_WHY}", file=path, remedy=WITH_SLIDE)
    return _Glass(_offset(Path(getattr(slide, "path", "")), path), np.array(size, float) / 2, 1000.0 * mpp)


def _offset(slide: Path, path: Path) -> Array:
    """Nanometres from the centre of the glass to that of the picture, from the tags of an .ndpi file."""
    import tifffile

    try:
        with tifffile.TiffFile(slide) as tiff:
            values = [int(tiff.pages[0].tags[tag].value) for tag in _OFFSET_TAGS]
    except (tifffile.TiffFileError, OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise AnnotationError(
            f"{slide.name or 'the slide'} does not say where it lies on the glass (XOffsetFromSlideCentre), which NDPA "
            "counts from",
            file=path,
            remedy="Give the .ndpi file they were drawn on with --slide",
        ) from error
    return np.array([value - 2**32 if value >= 2**31 else value for value in values], float)


def looks_like(path: Path, head: str) -> bool:
    return format_ending(path) == ".ndpa" or "<ndpviewstate" in head


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    """The title is the class, the details the name."""
    root = read_xml(path)
    glass = _glass(slide, path)
    geometries, classes, names = [], [], []
    for index, view in enumerate(root.iter("ndpviewstate"), start=1):
        unit = view.findtext("coordformat", _UNIT).strip()
        if unit != _UNIT:
            raise AnnotationError(f"view {index} counts in {unit!r}, not in {_UNIT}", file=path)
        cls, name = ((view.findtext(tag) or "").strip() for tag in ("title", "details"))
        for element in view.iter("annotation"):
            with telling(problems, name or f"view {index}", cls):
                geometries.append(_geometry(element, glass, path, f"view {index}"))
                classes.append(cls)
                names.append(name)
    return make_records(geometries, classes, name=names)


def _geometry(element: Element, glass: _Glass, path: Path, what: str) -> BaseGeometry:
    def values(*tags: str) -> list[float]:
        return [number(element.findtext(tag), path, f"{tag} of {what}") for tag in tags]

    kind = element.get("type", "")
    if kind == "freehand":
        corners = [
            (number(p.findtext("x"), path, f"x of {what}"), number(p.findtext("y"), path, f"y of {what}"))
            for p in element.iter("point")
        ]
        if element.findtext("closed", "1").strip() == "1":
            return polygon(glass.pixels(corners).tolist(), path, what)
        if len(corners) > 1:
            return shapely.LineString(glass.pixels(corners))
    elif kind == "circle":
        (centre,) = glass.pixels(values("x", "y"))
        return shapely.Point(centre).buffer(values("radius")[0] / glass.scale)
    elif kind == "pin":
        return shapely.Point(glass.pixels(values("x", "y"))[0])
    elif kind in ("linearmeasure", "pointer"):
        return shapely.LineString(glass.pixels(values("x1", "y1", "x2", "y2")))
    raise AnnotationError(f"{what} has an annotation {kind!r} that is not read", file=path)


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    glass = _glass(slide, path)
    root = ElementTree.Element("annotations")
    for index, (row, part) in enumerate(simple_parts(shapes), start=1):
        view = ElementTree.SubElement(root, "ndpviewstate", id=str(index))
        area, pin = part.geom_type == "Polygon", part.geom_type == "Point"
        points = glass.nanometres(part.exterior.coords[:-1] if area else part.coords).tolist()
        middle = np.mean(points, axis=0).astype(int)
        _texts(view, title=row["class"], details=row["name"], coordformat=_UNIT, lens="10",
               x=middle[0], y=middle[1], z=0, showtitle=0, showhistogram=0, showlineprofile=0)  # fmt: skip
        kind = "pin" if pin else "freehand"
        shown = "AnnotatePin" if pin else "AnnotateFreehand" if area else "AnnotateFreehandLine"
        element = ElementTree.SubElement(view, "annotation", type=kind, displayname=shown, color="#000000")
        if pin:
            _texts(element, x=points[0][0], y=points[0][1], icon="pinyellow", stricon="iconpinyellow")
            continue
        _texts(element, measuretype=0, closed=int(area))
        listed = ElementTree.SubElement(element, "pointlist")
        for x, y in points:
            _texts(ElementTree.SubElement(listed, "point"), x=x, y=y)
    with whole_file(path) as aside:
        ElementTree.ElementTree(root).write(aside, encoding="utf-8", xml_declaration=True)


def _texts(parent: Element, **values: object) -> None:
    for name, value in values.items():
        ElementTree.SubElement(parent, name).text = str(value)
