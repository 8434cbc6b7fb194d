"""Shapes: the one table in which annotations and predictions pass between rooms."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

if TYPE_CHECKING:
    import geopandas as gpd

SHAPE_COLUMNS = ("geometry", "class", "name", "id", "score", "source_slide", "confidence", "properties")

_NAMESPACE = uuid.UUID("6f1d3c52-2f0e-5b0a-9a39-1d2f7a4f6c11")


def empty_shapes() -> gpd.GeoDataFrame:
    """Shapes without a row, with the columns and types that every table of shapes has."""
    return make_shapes([], "")


def make_shapes(geometries: Iterable[BaseGeometry], cls: str | Sequence[str], **columns: Any) -> gpd.GeoDataFrame:
    """A table of shapes.

    Args:
        geometries: shapely geometries in level-0 pixels.
        cls: the class of all, or one per geometry; ``""`` is unclassified.
        columns: any of ``name, id, score, source_slide, confidence, properties``, one value or one per geometry.
            Missing ids are derived from class and geometry, so that the same shapes get the same ids.

    Returns:
        GeoDataFrame with the columns of :data:`SHAPE_COLUMNS`: ``class, name, id, source_slide`` are str, ``score``
        and ``confidence`` float (NaN: not known), ``properties`` dict.

    Raises:
        ValueError: an unknown column, or a column of another length.
    """
    import geopandas as gpd
    import pandas as pd

    geometries = list(geometries)
    count = len(geometries)
    if unknown := set(columns) - set(SHAPE_COLUMNS):
        raise ValueError(f"shapes have no column {', '.join(sorted(unknown))}")

    def spread(value: Any, default: Any) -> list[Any]:
        if value is None or isinstance(value, str | dict | float | int):
            return [default if value is None else value] * count
        values = [default if one is None else one for one in value]
        if len(values) != count:
            raise ValueError(f"{len(values)} values for {count} geometries")
        return values

    classes = spread(cls, "")
    properties = [dict(one) for one in spread(columns.get("properties"), {})]
    ids = spread(columns["id"], "") if "id" in columns else derive_ids(geometries, classes)
    data = pd.DataFrame(
        {
            "class": pd.Series(classes, dtype=object),
            "name": pd.Series(spread(columns.get("name"), ""), dtype=object),
            "id": pd.Series([str(one) for one in ids], dtype=object),
            "score": np.asarray(spread(columns.get("score"), np.nan), float),
            "source_slide": pd.Series(spread(columns.get("source_slide"), ""), dtype=object),
            "confidence": np.asarray(spread(columns.get("confidence"), np.nan), float),
            "properties": pd.Series(properties, dtype=object),
        }
    )
    frame = gpd.GeoDataFrame(data, geometry=gpd.GeoSeries(geometries, index=data.index), crs=None)
    return frame[list(SHAPE_COLUMNS)]


def join_shapes(tables: Iterable[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """All rows of several tables, in order, with a fresh index."""
    import geopandas as gpd
    import pandas as pd

    filled = [table for table in tables if len(table)]
    if not filled:
        return empty_shapes()
    joined = pd.concat(filled, ignore_index=True)
    return gpd.GeoDataFrame(joined, geometry="geometry", crs=None)


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
