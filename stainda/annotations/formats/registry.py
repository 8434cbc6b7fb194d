"""The list of formats, and the two functions that use it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from stainda.annotations.formats import (
    asap,
    coco,
    cytomine,
    imagej,
    labelme,
    masks,
    ndpa,
    points,
    regions,
    run_length,
    sectra,
    voc,
)
from stainda.annotations.formats.frame import WITH_SLIDE, Problems, SlideFrame
from stainda.annotations.frames import (
    Frame,
    Origin,
    ScannedPart,
    as_origin,
    bounds_of,
    check_frame,
    corner,
    from_level0,
    moved_records,
)
from stainda.annotations.geojson import read_records as read_qupath
from stainda.annotations.geojson_writing import write_geojson
from stainda.annotations.guarded import check_file
from stainda.annotations.json_stream import MAX_STREAMED
from stainda.annotations.records import ShapeRecords, as_objects
from stainda.annotations.unpacking import ends, members, only_member
from stainda.arrays import Array
from stainda.errors import AnnotationError, did_you_mean
from stainda.names import ending, format_ending

if TYPE_CHECKING:
    import geopandas as gpd

_EVERYTHING = frozenset(
    {"areas", "polygons", "holes", "parts", "points", "pointsets", "lines", "class", "name", "id", "score"}
    | {"properties", "exact"}
)

_HEAD_BYTES, _TAIL_BYTES = 65_536, 8_192  # the words that tell a JSON format may stand behind its long lists


@dataclass(frozen=True)
class Format:
    """A way to store shapes.

    Attributes:
        name: the word for it; title: what people call it.
        suffixes: endings of its files, the first for writing.
        holds: what survives, out of the words of ``_EVERYTHING``
            (``polygons``: areas that are no boxes; ``parts``: several polygons or lines as one object; ``pointsets``:
            several points as one; ``exact``: coordinates that are not whole pixels).
        read: from (path, slide or None, problems or None) to records.
        write: from (shapes, path, slide or None); shapes hold nothing the format does not.
        looks_like: whether a file is of this format, from its path and the first and last kilobytes of its text.
        frame: where its coordinates begin, unless the file or a person says otherwise; ``None``: at a place of its own
            that does not depend on what was scanned.
        sized: whether coordinates depend on the size of the picture, not on its corner alone.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    holds: frozenset[str]
    read: Callable[[Path, SlideFrame | None, Problems], ShapeRecords]
    write: Callable[[gpd.GeoDataFrame, Path, SlideFrame | None], Any]
    looks_like: Callable[[Path, str], bool]
    frame: Frame | None = "level0"
    sized: bool = False


def _format(
    name: str, title: str, suffixes: str, holds: str, module: Any, prefix: str = "", *,
    frame: Frame | None = "level0", sized: bool = False,
) -> Format:  # fmt: skip
    return Format(
        name,
        title,
        tuple(suffixes.split()),
        frozenset(holds.split()),
        getattr(module, f"{prefix}read"),
        getattr(module, f"{prefix}write"),
        getattr(module, f"{prefix}looks_like"),
        frame,
        sized,
    )


FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Format(
            "qupath",
            "QuPath GeoJSON",
            (".geojson", ".json"),
            _EVERYTHING,
            lambda path, slide, problems: read_qupath(path, problems)[0],
            lambda shapes, path, slide: write_geojson(shapes, path),
            lambda path, head: format_ending(path) == ".geojson" or ('"type"' in head and '"coordinates"' in head),
            "bounds",
        ),
        _format("asap", "ASAP XML", ".xml", "areas polygons points pointsets class name exact", asap),
        _format("imagescope", "Aperio ImageScope XML", ".xml",
                "areas polygons holes lines class name exact", regions, "imagescope_"),
        _format("halo", "HALO annotations", ".annotations .xml",
                "areas polygons holes lines class name exact", regions, "halo_"),
        _format("cytomine", "Cytomine (WKT in JSON or CSV)", ".csv .json .txt",
                "areas polygons holes parts points pointsets lines class id exact", cytomine, sized=True),
        _format("labelme", "labelme JSON", ".json",
                "areas polygons parts points pointsets lines class name exact", labelme),
        _format("coco", "COCO JSON (polygons, run lengths)", ".json",
                "areas polygons parts class id score exact", coco),
        _format("rle", "Kaggle/HuBMAP run lengths", ".csv", "areas polygons holes", run_length, sized=True),
        _format("voc", "Pascal VOC boxes", ".xml", "areas class", voc),
        _format("imagej", "ImageJ regions (.zip, .roi)", ".zip .roi",
                "areas polygons holes parts points pointsets lines class name exact", imagej),
        _format("sectra", "Sectra PathologyCore JSON", ".json", "areas polygons lines class id exact", sectra,
                sized=True),
        _format("ndpa", "Hamamatsu NDPA", ".ndpa .xml", "areas polygons points lines class name exact", ndpa,
                frame=None),
        _format("mask", "mask image (binary or indexed)", ".png .tif .tiff", "areas polygons holes class", masks,
                sized=True),
        _format("points", "CSV of points", ".csv", "points class name id score exact", points),
    )
}  # fmt: skip


def sniff_format(path: str | Path) -> Format:
    """The format of a file, from its name, its first kilobytes and its last.

    Raises:
        AnnotationError: there is no such file, or it is of no known format.
    """
    path = Path(path)
    check_file(path, MAX_STREAMED)
    inside = members(path)
    member = inside[0] if all(file.suffix in (".geojson", ".json") for file in inside) else only_member(path)
    text = ends(member, _HEAD_BYTES, _TAIL_BYTES, MAX_STREAMED).decode("utf-8", errors="replace")
    name = Path(member.name)  # of a packed file, the name of what is in it, which is never opened
    for format_ in FORMATS.values():
        if member.suffix in format_.suffixes and format_.looks_like(name, text):
            return format_
    raise AnnotationError("not in a known format", file=path, remedy=f"Name it with --from ({', '.join(FORMATS)})")


def read_annotations(
    path: str | Path,
    format: str | None = None,
    slide: SlideFrame | None = None,
    classes: Mapping[str, str] | None = None,
    problems: Problems = None,
    origin: Origin = "auto",
) -> gpd.GeoDataFrame:
    """Read shapes from any known format, in level-0 pixels.

    Args:
        format: a name in :data:`FORMATS`; ``None`` looks at the file.
        slide: an open slide, where the format counts from its lower edge or holds a mask of it, or where its scanned
            part begins elsewhere than the slide: it is then also checked that the shapes lie on tissue.
        classes: new names of classes; others stay.
        problems: where given, a shape that cannot be used (an outline of two points, coordinates that are no numbers)
            is left out and reported here as a row of ``REPAIR_COLUMNS``; else it is an error. What is wrong with the
            file as a whole is always an error, and so is a file of which no shape can be used.
        origin: where the coordinates of the file begin: ``level0`` at the corner of the slide, ``bounds`` at that of
            its scanned part, ``auto`` as the format's programs do. A file that stainda wrote says so itself.

    Raises:
        AnnotationError: broken, hostile or of unknown format; the slide is needed; or the shapes lie on glass, and on
            tissue where the coordinates are read from the other origin.
    """
    return read_records(path, format, slide, classes, problems, origin).table()


def read_records(
    path: str | Path,
    format: str | None = None,
    slide: SlideFrame | None = None,
    classes: Mapping[str, str] | None = None,
    problems: Problems = None,
    origin: Origin = "auto",
) -> ShapeRecords:
    """As :func:`read_annotations`, as plain arrays."""
    path = Path(path)
    form = sniff_format(path) if format is None else _named(format)
    n_before = len(problems or ())
    shapes = _read_from_origin(form, path, slide, problems, as_origin(origin))
    unusable = len(problems or ()) - n_before
    if problems and not len(shapes) and any(problem["action"] == "dropped" for problem in problems[n_before:]):
        raise AnnotationError(  # a slide of which nothing is known is not one without objects
            f"none of its {unusable} shapes can be used; the first {problems[n_before]['reason']}",
            file=path,
            remedy="Export the annotations again",
        )
    if classes:
        shapes = shapes.replaced(classes=as_objects([classes.get(name, name) for name in shapes.classes]))
    return shapes


def _read_from_origin(
    form: Format, path: Path, slide: SlideFrame | None, problems: Problems, origin: Origin
) -> ShapeRecords:
    """Shapes in level-0 pixels, checked against the tissue where the slide's scanned part begins elsewhere."""
    if origin == "bounds" and slide is None and form.frame is not None:
        return _without_slide(form, path, problems)
    frame = _frame(form, path, slide, origin)
    if frame is None or bounds_of(slide) is None:
        return form.read(path, slide, problems)
    shapes = _read_in(form, path, slide, problems, frame)
    marked = shapes.frame
    frame = marked or frame

    def in_other_frame() -> Array:
        with contextlib.suppress(AnnotationError):  # it cannot be of that frame: a mask of other proportions, say
            return _read_in(form, path, slide, [], "level0" if frame == "bounds" else "bounds").geometries
        return as_objects([])

    try:
        doubt = check_frame(shapes.geometries, frame, slide, path, in_other_frame if form.sized else None)
    except AnnotationError as error:
        if not marked:
            raise
        raise AnnotationError(
            f"{error.message}. The file says that it counts from there",
            file=path,
            remedy="Is it of this slide? Else remove its member 'stainda' and say --origin (annotation_origin)",
        ) from error
    if doubt and problems is not None:
        problems.append({"id": "", "class": "", "action": "kept", "reason": doubt})
    return shapes


def _read_in(form: Format, path: Path, slide: SlideFrame | None, problems: Problems, frame: Frame) -> ShapeRecords:
    """Shapes read in a frame, in level-0 pixels; a frame that the file itself tells goes before it."""
    shapes = form.read(path, ScannedPart(slide) if frame == "bounds" else slide, problems)
    return shapes if shapes.frame else moved_records(shapes, *corner(frame, bounds_of(slide)))


def _without_slide(form: Format, path: Path, problems: Problems) -> ShapeRecords:
    """Shapes of a file that is said to count from the scanned part, where only the file itself can tell its place."""
    shapes = form.read(path, None, problems)
    if shapes.frame:
        return shapes
    raise AnnotationError(
        "its coordinates count from the scanned part of the slide, and without the slide nobody knows where that is",
        file=path,
        remedy=WITH_SLIDE,
    )


def _frame(form: Format, path: Path, slide: SlideFrame | None, origin: Origin) -> Frame | None:
    """The frame to read or write in; ``None`` where the format has a place of its own to count from."""
    if form.frame is None or origin != "auto":
        return None if form.frame is None else origin  # type: ignore[return-value]  # auto is no longer among them
    if form.name == "mask" and path.is_file() and masks.is_of_scanned_part(path, slide, bounds_of(slide)):
        return "bounds"
    return form.frame


def write_annotations(
    shapes: gpd.GeoDataFrame,
    path: str | Path,
    format: str | None = None,
    slide: SlideFrame | None = None,
    origin: Origin = "auto",
) -> list[str]:
    """Write shapes in any known format; returns what was lost, one sentence each (see :func:`what_is_lost`).

    Args:
        shapes: in level-0 pixels.
        slide, origin: as for :func:`read_annotations`; a GeoJSON for QuPath begins at the corner of the scanned part
            where the slide is given, and says so.
    """
    path = Path(path)
    if format is None:
        fitting = [format_ for format_ in FORMATS.values() if ending(path) == format_.suffixes[0]]
        if len(fitting) != 1:
            names = [format_.name for format_ in fitting] or list(FORMATS)
            raise AnnotationError(
                f"{ending(path) or 'a name without ending'} does not tell one format",
                file=path,
                remedy=f"Name it with --to: {', '.join(names)}",
            )
        form = fitting[0]
    else:
        form = _named(format)
    lost = what_is_lost(shapes, form.name)
    reduced, bounds = _reduced(shapes, form.holds), bounds_of(slide)
    frame = form.frame if as_origin(origin) == "auto" else as_origin(origin)
    if bounds is None or frame != "bounds" or form.frame is None:
        form.write(reduced, path, slide)
    elif form.name == "qupath":
        write_geojson(reduced, path, bounds=bounds)
    else:
        form.write(from_level0(reduced, "bounds", bounds), path, ScannedPart(slide))
    return lost


def what_is_lost(shapes: gpd.GeoDataFrame, format: str) -> list[str]:
    """What these shapes have that the format cannot hold, one sentence each; empty where nothing is lost."""
    holds = _named(format).holds
    written = _contents(_reduced(shapes, holds))
    counts = _contents(shapes) | {key: written[key] for key in ("polygons", "holes", "parts", "pointsets", "exact")}
    words = {
        "areas": "{n} areas are left out",
        "polygons": "{n} areas become their bounding boxes",
        "holes": "the holes of {n} shapes are filled",
        "parts": "{n} shapes of several parts become one shape per part",
        "pointsets": "{n} sets of points become one shape per point",
        "points": "{n} shapes of points are left out",
        "lines": "{n} lines are left out",
        "class": "the classes of {n} shapes are left out",
        "name": "{n} names are left out",
        "id": "{n} ids are left out",
        "score": "{n} scores are left out",
        "properties": "further properties of {n} shapes are left out",
        "exact": "the outlines of {n} shapes are rounded to whole pixels",
    }
    return [text.format(n=counts[key]) for key, text in words.items() if key not in holds and counts[key]]


def _contents(shapes: gpd.GeoDataFrame) -> dict[str, int]:
    geometries = shapes.geometry.values
    kind = shapely.get_dimensions(geometries)
    polygons = geometries[kind == 2]
    holes = sum(
        any(shapely.get_num_interior_rings(part) for part in shapely.get_parts(polygon)) for polygon in polygons
    )
    corners = [shapely.get_coordinates(geometry) for geometry in geometries]
    boxes = sum(not polygon.equals(shapely.box(*polygon.bounds)) for polygon in polygons)
    known = {"label"}
    return {
        "areas": len(polygons),
        "polygons": int(boxes),
        "holes": int(holes),
        "parts": int(((shapely.get_num_geometries(geometries) > 1) & (kind > 0)).sum()),
        "pointsets": int(((shapely.get_num_geometries(geometries) > 1) & (kind == 0)).sum()),
        "points": int((kind == 0).sum()),
        "lines": int((kind == 1).sum()),
        "class": int((shapes["class"] != "").sum()),
        "name": int((shapes["name"] != "").sum()),
        "id": len(shapes),
        "score": int(np.isfinite(shapes["score"]).sum()),
        "properties": sum(bool(set(entry) - known) for entry in shapes["properties"]),
        "exact": sum(not np.array_equal(xy, np.round(xy)) for xy in corners),
    }


def _reduced(shapes: gpd.GeoDataFrame, holds: frozenset[str]) -> gpd.GeoDataFrame:
    """The shapes without those whose kind of geometry the format cannot hold."""
    kind = shapely.get_dimensions(shapes.geometry.values)
    keep = np.isin(kind, [number for number, word in enumerate(("points", "lines", "areas")) if word in holds])
    return shapes[keep].reset_index(drop=True)


def _named(name: str) -> Format:
    if name not in FORMATS:
        raise AnnotationError(f"unknown format {name!r}", remedy=did_you_mean(name, FORMATS))
    return FORMATS[name]
