"""What a task asks of each pixel besides its class: the number of its object, or how near it is to a point.

The store keeps it as one 16-bit array next to the labels (``details.npy``), for the kinds of task that need it:

- ``instances``: the number of the object, 1…n within the patch, 0 outside of objects;
- ``points``: ``256 c + round(255 exp(-d² / 2σ²))``, d being the distance to the nearest point and c the number (from 1)
  of its class; 0 where that is less than half of 1/255. The labels are discs about the points, up to half the height.

Both mean something only where the labels are not 255.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from stainda.annotations.raster import PixelGrid, number_objects
from stainda.config import TaskConfig
from stainda.errors import SlideError

WITH_DETAILS = ("instances", "points")
"""Kinds of task whose patches have such an array."""

HALF = math.sqrt(2 * math.log(2))
"""Standard deviations from its middle at which a Gaussian has half its height."""

_REACH = math.sqrt(2 * math.log(2 * 255))


def sigma_of(task: TaskConfig, mpp: float | None, slide: str) -> float:
    """Standard deviation of the disc about a point, level-0 pixels of a slide.

    Raises:
        SlideError: it is in micrometres and the pixel size is not known.
    """
    if task.sigma_um is not None and mpp is not None:
        return task.sigma_um / mpp
    if task.sigma_px is None:
        raise SlideError(
            f"task.sigma_um is {task.sigma_um} µm and the pixel size of slide {slide!r} is not known",
            remedy="Write micrometres per pixel into the column mpp of the manifest, or set task.sigma_px",
        )
    return task.sigma_px


def as_discs(shapes: gpd.GeoDataFrame, sigma: float) -> gpd.GeoDataFrame:
    """Shapes with each geometry replaced by the disc about its centroid where the Gaussian has half its height."""
    discs = shapely.buffer(shapely.centroid(np.asarray(shapes.geometry.values, object)), HALF * sigma)
    return shapes.set_geometry(gpd.GeoSeries(list(discs), index=shapes.index))


def middles(shapes: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Shapes with each geometry replaced by its centroid: what a task of points looks for."""
    points = shapely.centroid(np.asarray(shapes.geometry.values, object))
    return shapes.set_geometry(gpd.GeoSeries(list(points), index=shapes.index))


def numbers_of(objects: NDArray[np.object_], order: NDArray[np.intp], grid: PixelGrid) -> NDArray[np.uint16]:
    """The number of each pixel's object.

    Args:
        order: indices of the objects near the grid, as they are painted: later ones over earlier ones.
    """
    return np.asarray(number_objects(objects[order], grid), np.uint16)


def heat_of(points: NDArray[np.float64], classes: Sequence[int], sigma: float, grid: PixelGrid) -> NDArray[np.uint16]:
    """Nearness to points and their class, see the module.

    Args:
        points: x and y of the points near the grid, level-0 pixels ``(n, 2)``. classes: of each, from 1.
        sigma: level-0 pixels.
    """
    out = np.zeros((grid.height, grid.width), np.uint16)
    heights = np.zeros(out.shape, np.float64)
    reach, spread = math.ceil(_REACH * sigma / grid.downsample) + 1, sigma / grid.downsample
    for (x, y), cls in zip((points - (grid.x, grid.y)) / grid.downsample, classes, strict=True):
        left, top = max(0, int(x) - reach), max(0, int(y) - reach)
        rows, columns = slice(top, max(0, int(y) + reach + 1)), slice(left, max(0, int(x) + reach + 1))
        part = heights[rows, columns]
        down, right = np.arange(part.shape[0]) + top + 0.5 - y, np.arange(part.shape[1]) + left + 0.5 - x
        height = np.exp(-(down[:, None] ** 2 + right[None] ** 2) / (2 * spread**2))
        nearer = height > part
        part[nearer] = height[nearer]
        values = np.rint(255 * height).astype(np.uint16)
        out[rows, columns][nearer] = np.where(values > 0, values + 256 * cls, 0)[nearer]
    return out


def heights(details: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Nearness in 0..1 and number of the class of each pixel, from what :func:`heat_of` gave."""
    return (details % 256).astype(np.float32) / 255, details // 256
