"""The list of formats, and the two functions that use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
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
from stainda.annotations.formats.frame import Problems, SlideFrame
from stainda.annotations.geojson import read_shapes, write_geojson
from stainda.annotations.guarded import check_file, is_gzip, read_bytes
from stainda.errors import AnnotationError, did_you_mean
from stainda.names import ending, format_ending

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
        read: from (path, slide or None, problems or None) to shapes.
        write: from (shapes, path, slide or None); shapes hold nothing the format does not.
        looks_like: whether a file is of this format, from its path and the first and last kilobytes of its text.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    holds: frozenset[str]
    read: Callable[[Path, SlideFrame | None, Problems], gpd.GeoDataFrame]
    write: Callable[[gpd.GeoDataFrame, Path, SlideFrame | None], Any]
    looks_like: Callable[[Path, str], bool]


def _format(name: str, title: str, suffixes: str, holds: str, module: Any, prefix: str = "") -> Format:
    return Format(
        name,
        title,
        tuple(suffixes.split()),
        frozenset(holds.split()),
        getattr(module, f"{prefix}read"),
        getattr(module, f"{prefix}write"),
        getattr(module, f"{prefix}looks_like"),
    )


FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format(
            "qupath",
            "QuPath GeoJSON",
            (".geojson", ".json"),
            _EVERYTHING,
            lambda path, slide, problems: read_shapes(path, problems),
            lambda shapes, path, slide: write_geojson(shapes, path),
            lambda path, head: format_ending(path) == ".geojson" or ('"type"' in head and '"coordinates"' in head),
        ),
        _format("asap", "ASAP XML", ".xml", "areas polygons points pointsets class name exact", asap),
        _format("imagescope", "Aperio ImageScope XML", ".xml",
                "areas polygons holes lines class name exact", regions, "imagescope_"),
        _format("halo", "HALO annotations", ".annotations .xml",
                "areas polygons holes lines class name exact", regions, "halo_"),
        _format("cytomine", "Cytomine (WKT in JSON or CSV)", ".csv .json .txt",
                "areas polygons holes parts points pointsets lines class id exact", cytomine),
        _format("labelme", "labelme JSON", ".json",
                "areas polygons parts points pointsets lines class name exact", labelme),
        _format("coco", "COCO JSON (polygons, run lengths)", ".json",
                "areas polygons parts class id score exact", coco),
        _format("rle", "Kaggle/HuBMAP run lengths", ".csv", "areas polygons holes", run_length),
        _format("voc", "Pascal VOC boxes", ".xml", "areas class", voc),
        _format("imagej", "ImageJ regions (.zip, .roi)", ".zip .roi",
                "areas polygons holes parts points pointsets lines class name exact", imagej),
        _format("sectra", "Sectra PathologyCore JSON", ".json", "areas polygons lines class id exact", sectra),
        _format("ndpa", "Hamamatsu NDPA", ".ndpa .xml", "areas polygons points lines class name exact", ndpa),
        _format("mask", "mask image (binary or indexed)", ".png .tif .tiff", "areas polygons holes class", masks),
        _format("points", "CSV of points", ".csv", "points class name id score exact", points),
    )
}  # fmt: skip


def sniff_format(path: str | Path) -> Format:
    """The format of a file, from its name, its first kilobytes and its last.

    Raises:
        AnnotationError: there is no such file, or it is of no known format.
    """
    path = Path(path)
    check_file(path)
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        if is_gzip(head):
            whole = read_bytes(path)
            head, tail = whole[:_HEAD_BYTES], whole[_HEAD_BYTES:][-_TAIL_BYTES:]
        else:
            stream.seek(max(stream.tell(), path.stat().st_size - _TAIL_BYTES))
            tail = stream.read(_TAIL_BYTES)
    text = (head + tail).decode("utf-8", errors="replace")
    for one in FORMATS.values():
        if format_ending(path) in one.suffixes and one.looks_like(path, text):
            return one
    raise AnnotationError("not in a known format", file=path, remedy=f"Name it with --from ({', '.join(FORMATS)})")


def read_annotations(
    path: str | Path,
    format: str | None = None,
    slide: SlideFrame | None = None,
    classes: Mapping[str, str] | None = None,
    problems: Problems = None,
) -> gpd.GeoDataFrame:
    """Read shapes from any known format, in level-0 pixels.

    Args:
        format: a name in :data:`FORMATS`; ``None`` looks at the file.
        slide: an open slide, where the format counts from its lower edge or holds a mask of it.
        classes: new names of classes; others stay.
        problems: where given, a shape that cannot be used (an outline of two points, coordinates that are no numbers)
            is left out and told here as a row of ``REPAIR_COLUMNS``; else it is an error. What is wrong with the file
            as a whole is always an error, and so is a file of which no shape can be used.

    Raises:
        AnnotationError: broken, hostile or of unknown format; or the slide is needed.
    """
    path = Path(path)
    found = sniff_format(path) if format is None else _named(format)
    told = len(problems or ())
    shapes = found.read(path, slide, problems)
    if problems and len(problems) > told and not len(shapes):
        raise AnnotationError(  # a slide of which nothing is known is not one without objects
            f"none of its {len(problems) - told} shapes can be used; the first {problems[told]['reason']}",
            file=path,
            remedy="Export the annotations again",
        )
    if classes:
        shapes["class"] = shapes["class"].map(lambda name: classes.get(name, name))
    return shapes


def write_annotations(
    shapes: gpd.GeoDataFrame, path: str | Path, format: str | None = None, slide: SlideFrame | None = None
) -> list[str]:
    """Write shapes in any known format; returns what was lost, one sentence each (see :func:`what_is_lost`)."""
    path = Path(path)
    if format is None:
        fitting = [one for one in FORMATS.values() if ending(path) == one.suffixes[0]]
        if len(fitting) != 1:
            names = [one.name for one in fitting] or list(FORMATS)
            raise AnnotationError(
                f"{ending(path) or 'a name without ending'} does not tell one format",
                file=path,
                remedy=f"Name it with --to: {', '.join(names)}",
            )
        found = fitting[0]
    else:
        found = _named(format)
    lost = what_is_lost(shapes, found.name)
    found.write(_reduced(shapes, found.holds), path, slide)
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
    holes = sum(any(shapely.get_num_interior_rings(part) for part in shapely.get_parts(one)) for one in polygons)
    corners = [shapely.get_coordinates(one) for one in geometries]
    boxes = sum(not one.equals(shapely.box(*one.bounds)) for one in polygons)
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
        "properties": sum(bool(set(one) - known) for one in shapes["properties"]),
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
