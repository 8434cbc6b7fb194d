"""ImageJ's regions of interest: one ``.roi`` file, or the zip of them that the ROI Manager saves.

Read and written through ``roifile``. ImageJ stores coordinates as 32-bit floats (1/128 px beyond 65,536 px). Shapes
with holes or several parts are composite regions, whose rings combine by the even-odd rule. ImageJ has no classes: the
class is the property ``class`` of a region, else its group.
"""

from __future__ import annotations

import functools
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.formats.frame import Problems, SlideFrame, ellipse, polygon, telling, valid_area
from stainda.annotations.guarded import MAX_BYTES, check_file, read_bytes
from stainda.annotations.records import ShapeRecords, make_records
from stainda.errors import AnnotationError, MissingDependencyError
from stainda.files import whole_file
from stainda.names import stem

if TYPE_CHECKING:
    import geopandas as gpd

_MAX_REGIONS = 200_000
_MAX_REGION_BYTES = 32_000_000
_MADE_UP_NAME = re.compile(r"[\d-]+")  # ImageJ's own names are positions: 0123-0456
_BROKEN = (ValueError, TypeError, IndexError, OverflowError, RuntimeError, struct.error)


def looks_like(path: Path, head: str) -> bool:
    return head.startswith(("Iout", "PK\x03\x04", "PK\x05\x06"))


def _roifile() -> Any:
    try:
        import roifile
    except ImportError as error:
        raise MissingDependencyError("ImageJ regions need the package roifile", remedy="pip install roifile") from error
    return roifile


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    """The property ``class`` (else the group) is the class; names that only tell a position are left out."""
    roifile = _roifile()
    geometries, classes, names = [], [], []
    for entry, data in _entries(path):
        with telling(problems, entry, ""):
            region, geometry = _region_of(data, roifile, path, entry)
            geometries.append(geometry)
            classes.append(_class(region))
            name = region.name or entry
            names.append("" if _MADE_UP_NAME.fullmatch(name) else name)
    return make_records(geometries, classes, name=names)


def _region_of(data: bytes, roifile: Any, path: Path, entry: str) -> tuple[Any, BaseGeometry]:
    try:
        region = roifile.ImagejRoi.frombytes(data)
        geometry = _geometry(region, roifile, path, entry)
    except _BROKEN as error:
        raise AnnotationError(
            f"region {entry!r} is damaged ({error})", file=path, remedy="Save the regions again"
        ) from error
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise AnnotationError(f"region {entry!r} has coordinates that are no number", file=path)
    return region, geometry


def _entries(path: Path) -> list[tuple[str, bytes]]:
    """Name and content of every region, bounded in number and size before anything is unpacked."""
    check_file(path)
    with path.open("rb") as stream:
        magic = stream.read(4)
    if not magic.startswith((b"PK", b"Iout")):
        raise AnnotationError("neither an ImageJ region nor a zip file of them", file=path, remedy="Save it again")
    if not magic.startswith(b"PK"):
        return [(stem(path), read_bytes(path, _MAX_REGION_BYTES))]
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if info.filename.lower().endswith(".roi")]
            total = sum(info.file_size for info in infos)
            largest = max((info.file_size for info in infos), default=0)
            if len(infos) > _MAX_REGIONS or total > MAX_BYTES or largest > _MAX_REGION_BYTES:
                raise AnnotationError(
                    f"{len(infos)} regions of {total / 1e6:.0f} MB are more than is unpacked",
                    file=path,
                    remedy="Save the regions in several files, and convert each",
                )
            if not infos and archive.namelist():
                raise AnnotationError("a zip file without ImageJ regions (.roi)", file=path)
            entries = []
            for info in infos:
                with archive.open(info) as stream:
                    entries.append((stem(info.filename), stream.read(info.file_size)))
            return entries
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise AnnotationError(f"not a readable zip file ({error})", file=path, remedy="Save it again") from error


def _geometry(region: Any, roifile: Any, path: Path, entry: str) -> BaseGeometry:
    types, what = roifile.ROI_TYPE, f"region {entry!r}"
    kind = region.roitype
    if region.subtype in (roifile.ROI_SUBTYPE.TEXT, roifile.ROI_SUBTYPE.IMAGE):
        raise AnnotationError(f"{what} is a text or picture, not a shape", file=path, remedy="Delete it in ImageJ")
    if kind == types.RECT and region.composite:
        coordinates = [ring for ring in region.coordinates(multi=True) if len(ring) > 2]
        if not all(np.isfinite(ring).all() for ring in coordinates):
            raise ValueError("corners are no numbers")
        rings = [valid_area(polygon(ring.tolist(), path, what))[0] for ring in coordinates]
        if not rings:
            raise AnnotationError(f"{what} is empty", file=path, remedy="Delete it in ImageJ")
        return functools.reduce(shapely.symmetric_difference, rings)
    if kind in (types.RECT, types.OVAL):
        corners = [region.left, region.top, region.right, region.bottom]
        if region.subpixelrect:
            corners = [region.xd, region.yd, region.xd + region.widthd, region.yd + region.heightd]
        if not np.isfinite(corners).all():
            raise ValueError("corners are no numbers")
        return shapely.box(*corners) if kind == types.RECT else ellipse(*corners)
    points = np.asarray(region.coordinates(), float)
    if kind in (types.POLYGON, types.FREEHAND, types.TRACED):
        return polygon(points.tolist(), path, what)
    if kind in (types.LINE, types.POLYLINE, types.FREELINE, types.ANGLE) and len(points) > 1:
        return shapely.LineString(points)
    if kind == types.POINT and len(points):
        return shapely.Point(points[0]) if len(points) == 1 else shapely.MultiPoint(points)
    raise AnnotationError(f"{what} is of a kind that is not read ({kind.name})", file=path)


def _class(region: Any) -> str:
    for line in region.props.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == "class":
            return value.strip()
    return f"group_{region.group}" if region.group else ""


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    """One region per shape, in a zip file."""
    with whole_file(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, row in enumerate(shapes.to_dict("records"), start=1):
            region = _region(row["geometry"])
            region.name = _line(row["name"])
            region.props = f"class: {_line(row['class'])}\n" if row["class"] else ""
            readable = re.sub(r"[^\w .-]", "_", region.name)[:80]
            entry = zipfile.ZipInfo(f"{number:05d}{'-' if readable else ''}{readable}.roi")  # without the time of day
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, region.tobytes())


def _line(text: str) -> str:
    """Text that ImageJ's 16-bit characters and line-wise properties can hold."""
    return "".join(letter if ord(letter) < 0x10000 else "?" for letter in " ".join(text.split()))


def _region(geometry: BaseGeometry) -> Any:
    roifile = _roifile()
    parts = shapely.get_parts(geometry)
    rings = [ring for part in parts if part.geom_type == "Polygon" for ring in (part.exterior, *part.interiors)]
    closed = [np.asarray(ring.coords[:-1], float) for ring in rings]
    points = np.concatenate(closed) if closed else shapely.get_coordinates(geometry)
    region = roifile.ImagejRoi.frompoints(points)
    if not closed:
        region.roitype = roifile.ROI_TYPE.POLYLINE if "Line" in geometry.geom_type else roifile.ROI_TYPE.POINT
    elif len(closed) == 1:
        region.roitype = roifile.ROI_TYPE.POLYGON
    else:
        path: list[float] = []
        for ring in closed:
            for index, (x, y) in enumerate(ring.tolist()):
                path += [float(index > 0), x, y]
            path.append(4.0)
        region.roitype = roifile.ROI_TYPE.RECT
        region.options = roifile.ROI_OPTIONS(0)
        region.n_coordinates, region.integer_coordinates, region.subpixel_coordinates = 0, None, None
        region.multi_coordinates = np.array(path, np.float32)
        region.shape_roi_size = len(path)
    return region
