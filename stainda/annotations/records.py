"""Shapes as plain arrays: the form in which files are read and repaired before a GeoDataFrame is made.

The table is a GeoDataFrame, whose import takes more than a second. Commands that only look into files do without it.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.arrays import Array

if TYPE_CHECKING:
    import geopandas as gpd

SHAPE_COLUMNS = ("geometry", "class", "name", "id", "score", "source_slide", "confidence", "properties")

_NAMESPACE = uuid.UUID("6f1d3c52-2f0e-5b0a-9a39-1d2f7a4f6c11")


@dataclass(frozen=True, eq=False)
class ShapeRecords:
    """The columns of a table of shapes, one array each, all of the same length n.

    Attributes:
        geometries: object (n,), shapely geometries in level-0 pixels, or in the frame of the file they are read from.
        classes, names, ids, source_slides: object (n,), str.
        scores, confidences: float (n,); NaN: not known.
        properties: object (n,), dict.
        frame: the frame that the file says it is of; the geometries are then in level-0 pixels already.
    """

    geometries: Array
    classes: Array
    names: Array
    ids: Array
    scores: Array
    source_slides: Array
    confidences: Array
    properties: Array
    frame: Literal["level0", "bounds"] | None = None

    def __len__(self) -> int:
        return len(self.geometries)

    def take(self, kept: Sequence[int] | Array) -> ShapeRecords:
        """The records at these positions (int), or where this is true (bool), in order."""
        index = np.asarray(kept, bool if len(kept) and isinstance(kept[0], bool | np.bool_) else int)
        return self.replaced(**{name: getattr(self, name)[index] for name in _ARRAYS})

    def replaced(self, **arrays: Any) -> ShapeRecords:
        """These records with other arrays."""
        return dataclasses.replace(self, **arrays)

    def table(self) -> gpd.GeoDataFrame:
        """The table of shapes (:func:`stainda.annotations.make_shapes`) of these records, with a fresh index."""
        import geopandas as gpd
        import pandas as pd

        data = pd.DataFrame(
            {
                column: pd.Series(values, dtype=values.dtype)
                for column, values in zip(SHAPE_COLUMNS, map(self.__getattribute__, _ARRAYS), strict=True)
                if column != "geometry"
            }
        )
        frame = gpd.GeoDataFrame(data, geometry=gpd.GeoSeries(list(self.geometries), index=data.index), crs=None)
        return frame[list(SHAPE_COLUMNS)]


_ARRAYS = ("geometries", "classes", "names", "ids", "scores", "source_slides", "confidences", "properties")
"""In the order of SHAPE_COLUMNS."""


def make_records(geometries: Iterable[BaseGeometry], cls: str | Sequence[str], **columns: Any) -> ShapeRecords:
    """Shapes as records; arguments and errors as for :func:`stainda.annotations.make_shapes`."""
    geometries = list(geometries)
    count = len(geometries)
    if unknown := set(columns) - set(SHAPE_COLUMNS):
        raise ValueError(f"shapes have no column {', '.join(sorted(unknown))}")

    def spread(value: Any, default: Any) -> list[Any]:
        if value is None or isinstance(value, str | dict | float | int):
            return [default if value is None else value] * count
        values = [default if entry is None else entry for entry in value]
        if len(values) != count:
            raise ValueError(f"{len(values)} values for {count} geometries")
        return values

    classes = spread(cls, "")
    ids = spread(columns["id"], "") if "id" in columns else derive_ids(geometries, classes)
    return ShapeRecords(
        geometries=as_objects(geometries),
        classes=as_objects(classes),
        names=as_objects(spread(columns.get("name"), "")),
        ids=as_objects([str(identity) for identity in ids]),
        scores=np.asarray(spread(columns.get("score"), np.nan), float),
        source_slides=as_objects(spread(columns.get("source_slide"), "")),
        confidences=np.asarray(spread(columns.get("confidence"), np.nan), float),
        properties=as_objects([dict(entry) for entry in spread(columns.get("properties"), {})]),
    )


def join_records(parts: Sequence[ShapeRecords]) -> ShapeRecords:
    """All records of several, in order; at least one."""
    return parts[0].replaced(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS})


def records_of(shapes: gpd.GeoDataFrame) -> ShapeRecords:
    """The records of a table of shapes."""
    columns = {name: shapes[name].to_list() for name in SHAPE_COLUMNS if name not in ("geometry", "class")}
    return make_records(shapes.geometry.to_list(), shapes["class"].to_list(), **columns)


def as_objects(values: Sequence[Any]) -> Array:
    """An array of objects (n,), also of lists and dicts."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def derive_ids(geometries: Sequence[BaseGeometry], classes: Sequence[str]) -> list[str]:
    """UUIDs (version 5) from class and geometry; equal shapes are counted, so that no two ids are equal."""
    seen: dict[str, int] = {}
    ids = []
    for geometry, cls in zip(geometries, classes, strict=True):
        content = f"{cls}/{shapely.to_wkb(geometry, hex=True)}"
        count = seen[content] = seen.get(content, -1) + 1
        ids.append(str(uuid.uuid5(_NAMESPACE, f"{content}/{count}" if count else content)))
    return ids


def as_uuid(text: str) -> str:
    """``text`` where it is a UUID, else one derived from it."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, text))
