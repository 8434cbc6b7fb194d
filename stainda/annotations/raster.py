"""Rasterisation of shapes, exact at pixel centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.arrays import Array

if TYPE_CHECKING:
    import geopandas as gpd

IGNORED = 255
_BAND_PIXELS = 1 << 24  # memory is bounded however large the grid


@dataclass(frozen=True)
class PixelGrid:
    """A grid of pixels on a slide.

    Attributes:
        x, y: its corner, level-0 pixels.
        width, height: in its own pixels.
        downsample: level-0 pixels per pixel of the grid.
    """

    x: float
    y: float
    width: int
    height: int
    downsample: float


def rasterise(
    shapes: gpd.GeoDataFrame,
    classes: Sequence[str],
    grid: PixelGrid,
    ignore: gpd.GeoDataFrame | None = None,
) -> Array:
    """Paint shapes onto a grid of labels.

    A pixel (column i, row j) belongs to a shape where its centre (x + (i + ½)·downsample, y + (j + ½)·downsample) lies
    in it. Where shapes overlap, the class later in ``classes`` wins; ``ignore`` wins over all. Points, lines and shapes
    of other classes leave no mark.

    Args:
        shapes: shapes in level-0 pixels.
        classes: names of at most 254 classes.
        ignore: shapes whose area counts neither for nor against anything, of whatever class.

    Returns:
        uint8 (height, width): 0 background, i + 1 for ``classes[i]``, 255 ignored.
    """
    if len(classes) > IGNORED - 1:
        raise ValueError(f"{len(classes)} classes do not fit into 8 bits")
    labels = np.zeros((grid.height, grid.width), np.uint8)
    for value, cls in enumerate(classes, start=1):
        _paint(labels, shapes.geometry.values[(shapes["class"] == cls).to_numpy(bool)], value, grid)
    if ignore is not None:
        _paint(labels, ignore.geometry.values, IGNORED, grid)
    return labels


def number_objects(geometries: Array, grid: PixelGrid) -> Array:
    """Paint areas onto a grid, each with its number: uint16 (height, width), i + 1 for the i-th, later ones over
    earlier ones, 0 elsewhere; see :func:`rasterise`.

    Raises:
        ValueError: more areas than fit into 16 bits.
    """
    if len(geometries) > np.iinfo(np.uint16).max:
        raise ValueError(f"{len(geometries)} objects on one grid do not fit into 16 bits")
    labels = np.zeros((grid.height, grid.width), np.uint16)
    for value in range(len(geometries)):
        _paint(labels, geometries[value : value + 1], value + 1, grid)
    return labels


def covered(geometries: BaseGeometry | Array, grid: PixelGrid) -> Array:
    """Which pixels of a grid have their centre in an area, or in any of several: bool (height, width); see
    :func:`rasterise`."""
    labels = np.zeros((grid.height, grid.width), np.uint8)
    _paint(labels, np.atleast_1d(np.asarray(geometries, dtype=object)), 1, grid)
    return labels > 0


def _paint(labels: Array, geometries: Array, value: int, grid: PixelGrid) -> None:
    x, y, scale = grid.x, grid.y, grid.downsample
    bounds = shapely.bounds(geometries)  # NaN where there is no geometry: compares false
    near = (
        (bounds[:, 0] < x + grid.width * scale)
        & (bounds[:, 2] > x)
        & (bounds[:, 1] < y + grid.height * scale)
        & (bounds[:, 3] > y)
    )
    for geometry in geometries[near & (shapely.get_dimensions(geometries) == 2)]:
        # the parts of a valid geometry do not overlap, so that the even-odd rule holds for all of them at once
        for part in [geometry] if geometry.is_valid else shapely.get_parts(geometry):
            if shapely.get_dimensions(part) == 2:
                _fill(labels, part, value, x, y, scale)


def _fill(labels: Array, polygon: BaseGeometry, value: int, x: float, y: float, scale: float) -> None:
    """Even-odd scan conversion: along each row of centres, every crossing with the outline toggles inside and outside.

    Centres exactly on an outline belong to the polygon to their right and below, so that polygons that share an edge
    neither overlap nor leave a gap.
    """
    height, width = labels.shape
    low_x, low_y, high_x, high_y = polygon.bounds
    # rows and columns whose centres can lie within the bounds
    top = max(0, int(np.ceil((low_y - y) / scale - 0.5)))
    bottom = min(height, int(np.floor((high_y - y) / scale - 0.5)) + 1)
    left = max(0, int(np.ceil((low_x - x) / scale - 0.5)))
    right = min(width, int(np.floor((high_x - x) / scale - 0.5)) + 1)
    if top >= bottom or left >= right:
        return
    rings = shapely.get_rings(shapely.get_parts(polygon))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    points = (points - (x, y)) / scale - 0.5  # in grid pixels; centres are whole numbers
    within = ring[:-1] == ring[1:]
    (x0, y0), (x1, y1) = points[:-1][within].T, points[1:][within].T
    slopes = np.divide(x1 - x0, y1 - y0, out=np.zeros_like(x0), where=y1 != y0)
    edges = _Edges(np.minimum(y0, y1), np.maximum(y0, y1), x0, y0, slopes)
    step = max(1, _BAND_PIXELS // (right - left + 1))
    for band in range(top, bottom, step):
        rows = slice(band, min(band + step, bottom))
        inside = _inside(rows, slice(left, right), edges)
        labels[rows, left:right][inside] = value


@dataclass(frozen=True, eq=False)
class _Edges:
    """Edges of an outline: the y range of each, one point on it, and dx/dy; float (n,)."""

    upper: Array
    lower: Array
    x: Array
    y: Array
    slopes: Array


def _inside(rows: slice, columns: slice, edges: _Edges) -> Array:
    """Which whole points of a window lie inside: bool."""
    top, bottom, left, right = rows.start, rows.stop, columns.start, columns.stop
    first = np.clip(np.ceil(edges.upper), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(edges.lower), top, bottom).astype(np.int64)  # rows first <= row < last are crossed
    count = last - first
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    crossing = edges.x[edge] + (row - edges.y[edge]) * edges.slopes[edge]
    column = np.clip(np.ceil(crossing), left, right).astype(np.int64)
    span = right - left + 1
    toggles = np.bincount((row - top) * span + (column - left), minlength=(bottom - top) * span)
    return np.cumsum(toggles.reshape(bottom - top, span)[:, :-1], axis=1) % 2 == 1
