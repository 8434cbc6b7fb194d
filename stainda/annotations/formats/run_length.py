"""Run lengths as Kaggle and HuBMAP write them: ``start length`` pairs over the columns of the slide, from 1.

A whole slide is never painted: runs are joined to objects by their overlap with runs of the next column, and each
object is outlined in its own bounding box.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.formats.frame import Problems, SlideFrame, require_size
from stainda.annotations.guarded import read_csv
from stainda.annotations.labels import trace
from stainda.annotations.raster import PixelGrid, rasterise
from stainda.annotations.records import ShapeRecords, make_records
from stainda.annotations.shapes import make_shapes
from stainda.arrays import Array
from stainda.errors import AnnotationError
from stainda.files import write_csv
from stainda.names import stem

if TYPE_CHECKING:
    import geopandas as gpd

# a run over more columns than any slide has, or an object larger than any, is an attack on the memory
_MAX_COLUMN_RUNS = 2_000_000
_MAX_OBJECT_PIXELS = 400_000_000
_WHY = "because run lengths count through its columns"


def looks_like(path: Path, head: str) -> bool:
    first = head.splitlines()[0].lower() if head else ""
    return any(word in first for word in ("encoding", "rle", "predicted", "encodedpixels"))


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    """Separate objects of the row whose id is the slide's file name, or words of it, or of the only row."""
    width, height = require_size(slide, path, _WHY)
    header, *rows = read_csv(path)
    if len(header) != 2 or not looks_like(path, ",".join(header)) or any(len(row) > 2 for row in rows):
        raise AnnotationError("not a table of id and run lengths", file=path, row=1)
    if len(rows) > 1:
        rows = _of_slide(rows, stem(getattr(slide, "path", "")), problems)
    if len(rows) != 1:
        raise AnnotationError(f"{len(rows)} rows are of this slide", file=path, remedy="Keep the row of this slide")
    return make_records(decode(rows[0][1] if len(rows[0]) > 1 else "", width, height, path), "")


def _of_slide(rows: list[list[str]], name: str, problems: Problems) -> list[list[str]]:
    """The rows of a slide: of its name, else those whose id stands in it as a word, with a note."""
    if exact := [row for row in rows if row[0] == name]:
        return exact
    within = [row for row in rows if row[0] and re.search(rf"(?<![^\W_]){re.escape(row[0])}(?![^\W_])", name)]
    if len(within) == 1 and problems is not None:
        reason = f"no row is called {name!r}: the row {within[0][0]!r} was taken, which is a part of that name"
        problems.append({"id": within[0][0], "class": "", "action": "kept", "reason": reason})
    return within


def decode(text: str, width: int, height: int, path: Path) -> list[BaseGeometry]:
    """The objects of a run-length text as exact outlines, connected over pixel edges."""
    try:
        values = np.array(text.split(), np.int64).reshape(-1, 2)
    except (ValueError, OverflowError) as error:
        raise AnnotationError("the run lengths are no pairs of whole numbers", file=path) from error
    start, length = values[:, 0] - 1, values[:, 1]
    if len(values) and (
        start.min() < 0 or length.min() < 1 or start.max() > width * height or (start + length).max() > width * height
    ):
        raise AnnotationError(
            f"the runs do not fit into {width} x {height} pixels", file=path, remedy="Is it this slide?"
        )
    if len(values) and ((start + length - 1) // height - start // height + 1).sum() > _MAX_COLUMN_RUNS:
        raise AnnotationError("the runs cover more columns than a slide has", file=path, remedy="Do not trust it")
    column, top, bottom = _within_columns(start, length, height)
    if not len(column):
        return []
    owner = _objects(column, top, bottom)
    order = np.argsort(owner, kind="stable")
    geometries = []
    for runs in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        left, upper = column[runs].min(), top[runs].min()
        rows, columns = int(bottom[runs].max() - upper), int(column[runs].max() - left + 1)
        if rows * columns > _MAX_OBJECT_PIXELS:
            raise AnnotationError(f"one object spans {columns} x {rows} pixels", file=path, remedy="Is it a mask?")
        mask = np.zeros((rows, columns), np.uint8)
        for c, t, b in zip(column[runs] - left, top[runs] - upper, bottom[runs] - upper, strict=True):
            mask[t:b, c] = 1
        geometries.append(trace(mask, (float(left), float(upper)))[1][0])
    return geometries


def _within_columns(start: Array, length: Array, height: int) -> tuple[Array, Array, Array]:
    """Runs cut at the ends of columns, sorted and merged: column, first row, row behind the last."""
    stop = start + length
    pieces = (stop - 1) // height - start // height + 1
    run = np.repeat(np.arange(len(start)), pieces)
    column = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces) + (start // height)[run]
    top = np.maximum(start[run], column * height)
    bottom = np.minimum(stop[run], (column + 1) * height)
    order = np.argsort(top)
    column, top, bottom = column[order], top[order], bottom[order]
    reach = np.maximum.accumulate(bottom)
    fresh = np.ones(len(top), bool)
    fresh[1:] = (top[1:] > reach[:-1]) | (column[1:] != column[:-1])
    first = np.flatnonzero(fresh)
    if not len(first):
        return column, top, bottom
    bottom = np.maximum.reduceat(bottom, first)
    column, top = column[first], top[first]
    return column, top - column * height, bottom - column * height


def _objects(column: Array, top: Array, bottom: Array) -> Array:
    """Numbers of connected objects: runs of neighbouring columns are joined where their rows overlap."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    span = int(bottom.max()) + 1
    tops, bottoms = column * span + top, column * span + bottom
    # runs of the next column that begin before this one ends, and end after it begins
    first = np.searchsorted(bottoms, tops + span, side="right")
    last = np.searchsorted(tops, bottoms + span, side="left")
    count = np.maximum(last - first, 0)
    run = np.repeat(np.arange(len(column)), count)
    other = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    graph = coo_array((np.ones(len(run), bool), (run, other)), shape=(len(column),) * 2)
    return connected_components(graph, directed=False)[1]


def encode(shapes: gpd.GeoDataFrame, width: int, height: int) -> str:
    """All shapes as one mask in run lengths; pixel centres decide."""
    runs: list[Array] = []
    for geometry in shapes.geometry:
        x0, y0, x1, y1 = (int(v) for v in (*np.floor(geometry.bounds[:2]), *np.ceil(geometry.bounds[2:])))
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x0 >= x1 or y0 >= y1:
            continue
        mask = rasterise(make_shapes([geometry], "a"), ["a"], PixelGrid(x0, y0, x1 - x0, y1 - y0, 1)).T
        padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
        column, row = np.nonzero(np.diff(padded, axis=1) > 0)
        _, stop = np.nonzero(np.diff(padded, axis=1) < 0)
        start = (column + x0) * height + row + y0
        runs.append(np.stack([start, start + stop - row], 1))
    if not runs:
        return ""
    merged: list[list[int]] = []
    joined = np.concatenate(runs)
    for begin, end in joined[np.argsort(joined[:, 0])].tolist():
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([begin, end])
    return " ".join(f"{begin + 1} {end - begin}" for begin, end in merged)


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    width, height = require_size(slide, path, _WHY)
    identity = stem(getattr(slide, "path", path))
    areas = shapes[shapely.get_dimensions(shapes.geometry.values) == 2]
    write_csv(path, [{"id": identity, "encoding": encode(areas, width, height)}], ("id", "encoding"))
