"""Points in a plain CSV: columns ``x, y``, and any of ``class, id, name, score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from stainda.annotations.formats.frame import Problems, SlideFrame, number, telling
from stainda.annotations.guarded import read_csv
from stainda.annotations.records import ShapeRecords, make_records
from stainda.errors import AnnotationError
from stainda.files import write_csv

if TYPE_CHECKING:
    import geopandas as gpd

_COLUMNS = ("id", "class", "x", "y", "name", "score")


def looks_like(path: Path, head: str) -> bool:
    first = [cell.strip().strip('"').lower() for cell in head.splitlines()[0].split(",")] if head.strip() else []
    return "x" in first and "y" in first


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    header, *cells = read_csv(path)
    names = [name.strip().lower() for name in header]
    if not {"x", "y"} <= set(names):
        raise AnnotationError("the columns x and y are missing", file=path, row=1)
    points, rows = [], []
    for at, cell in enumerate(cells, start=2):
        row = dict(zip(names, cell, strict=False))
        with telling(problems, row.get("id") or f"row {at}", row.get("class", "")):
            points.append(shapely.Point(*(number(row.get(axis), path, f"{axis} in row {at}") for axis in "xy")))
            rows.append(row)

    def column(name: str) -> list[str]:
        return [row.get(name, "") for row in rows]

    extra = {"id": column("id")} if all(column("id")) and rows else {}
    score = [number(value, path, "a score") if value else np.nan for value in column("score")]
    return make_records(points, column("class"), name=column("name"), score=score, **extra)


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    rows = []
    for row in shapes[shapely.get_dimensions(shapes.geometry.values) == 0].to_dict("records"):
        for x, y in shapely.get_coordinates(row["geometry"]):
            score = row["score"] if np.isfinite(row["score"]) else None
            rows.append({"id": row["id"], "class": row["class"], "name": row["name"], "score": score, "x": x, "y": y})
    write_csv(path, rows, _COLUMNS)
