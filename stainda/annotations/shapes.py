"""The GeoDataFrame of shapes that is used for annotations and predictions throughout the package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from shapely.geometry.base import BaseGeometry

from stainda.annotations.records import make_records

if TYPE_CHECKING:
    import geopandas as gpd


def empty_shapes() -> gpd.GeoDataFrame:
    """Shapes without a row, with the columns and types that every table of shapes has."""
    return make_shapes([], "")


def make_shapes(geometries: Iterable[BaseGeometry], cls: str | Sequence[str], **columns: object) -> gpd.GeoDataFrame:
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
    return make_records(geometries, cls, **columns).table()


def join_shapes(tables: Iterable[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """All rows of several tables, in order, with a fresh index."""
    import geopandas as gpd
    import pandas as pd

    filled = [table for table in tables if len(table)]
    if not filled:
        return empty_shapes()
    joined = pd.concat(filled, ignore_index=True)
    return gpd.GeoDataFrame(joined, geometry="geometry", crs=None)


def join_slides(tables: Mapping[str, gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """The shapes of several slides as one table, whose first column ``slide`` says of which each is."""
    names = [name for name, table in tables.items() for _ in range(len(table))]
    joined = join_shapes(tables.values())
    joined.insert(0, "slide", names)
    return joined
