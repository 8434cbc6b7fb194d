"""Cytomine's exports: WKT in JSON or CSV, with y counted upwards from the lower edge of the slide."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.formats.frame import Problems, SlideFrame, require_size, telling
from stainda.annotations.guarded import check_file, read_csv, read_json
from stainda.annotations.records import ShapeRecords, make_records
from stainda.annotations.unpacking import only_member
from stainda.errors import AnnotationError
from stainda.files import write_csv, write_json
from stainda.names import format_ending

if TYPE_CHECKING:
    import geopandas as gpd

_MAX_NESTED = 4  # brackets of a collection of multipolygons
_COLUMNS = ("id", "term", "wkt")
_WHY = "because Cytomine counts y from the lower edge"


def looks_like(path: Path, head: str) -> bool:
    if format_ending(path) == ".csv":
        return "wkt" in head.splitlines()[0].lower() if head else False
    return '"location"' in head and any(word in head for word in ("POLYGON", "POINT", "LINESTRING"))


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    _, height = require_size(slide, path, _WHY)
    check_file(path)
    rows = _csv_rows(path) if only_member(path).suffix == ".csv" else _json_rows(path)
    geometries, classes, ids = [], [], []
    for identity, cls, text in rows:
        with telling(problems, identity, cls):
            geometries.append(_flipped(_wkt(text, path, identity), height))
            classes.append(cls)
            ids.append(identity)
    return make_records(geometries, classes, id=ids)


def _json_rows(path: Path) -> list[tuple[str, str, Any]]:
    document = read_json(path)
    if isinstance(document, Mapping):
        document = document.get("collection", [document])
    if not isinstance(document, list):
        raise AnnotationError("no list of Cytomine annotations", file=path)
    rows = []
    for index, entry in enumerate(document):
        entry = entry.get("annotation", entry) if isinstance(entry, Mapping) else None
        if not isinstance(entry, Mapping):
            raise AnnotationError(f"entry {index + 1} is no Cytomine annotation", file=path)
        terms = entry.get("term") or []
        cls = ", ".join(map(str, terms)) if isinstance(terms, list) else str(terms)
        rows.append((str(entry.get("id", index)), cls, entry.get("location")))
    return rows


def _csv_rows(path: Path) -> list[tuple[str, str, Any]]:
    header, *cells = read_csv(path)
    names = [name.strip().lower() for name in header]
    rows = [dict(zip(names, row, strict=False)) for row in cells]
    wkt = next((key for key in ("wkt", "location", "geometry") if key in names), None)
    if wkt is None:
        raise AnnotationError("no column WKT", file=path, row=1, remedy="Export the annotations with their geometry")
    term = next((key for key in ("term", "terms", "label") if key in names), "")
    return [(row.get("id", str(index)), row.get(term, "").strip("[] "), row.get(wkt)) for index, row in enumerate(rows)]


def _wkt(text: Any, path: Path, identity: str) -> BaseGeometry:
    try:
        if max(itertools.accumulate(1 if c == "(" else -1 for c in text if c in "()"), default=0) > _MAX_NESTED:
            raise ValueError("nested deeper than a multipolygon")  # before the reader, which recurses
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # numbers beyond all range become infinite, and are refused below
            geometry = shapely.from_wkt(text)
        if geometry is None or geometry.is_empty or not np.isfinite(shapely.get_coordinates(geometry)).all():
            raise ValueError("empty, or not finite")
    except (shapely.errors.ShapelyError, TypeError, ValueError) as error:
        raise AnnotationError(f"annotation {identity} has no usable WKT ({error})", file=path) from error
    return geometry


def _flipped(geometry: BaseGeometry, height: int) -> BaseGeometry:
    return shapely.transform(geometry, lambda xy: np.stack([xy[:, 0], height - xy[:, 1]], 1))


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    """CSV, or JSON as the server answers where the file is called so."""
    _, height = require_size(slide, path, _WHY)
    rows = [
        {"id": row["id"], "term": row["class"], "wkt": shapely.to_wkt(_flipped(row["geometry"], height), -1)}
        for row in shapes.to_dict("records")
    ]
    if format_ending(path) == ".csv":
        write_csv(path, rows, _COLUMNS)
        return
    listed = [{"id": row["id"], "term": [row["term"]] * bool(row["term"]), "location": row["wkt"]} for row in rows]
    write_json(path, {"collection": listed})
