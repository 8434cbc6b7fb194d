"""Objects of a task of instances: connected foreground of a whole slide, divided by the head's maps.

The maps of tiles are blended before anything is divided, and a piece of foreground is divided as a whole, wherever it
lies. So no object ends at the border of a tile, and none is there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import shapely

from stainda.annotations.raster import PixelGrid, covered
from stainda.arrays import Array
from stainda.instances import InstanceHead
from stainda.prediction.components import BAND_VALUES, find_components
from stainda.prediction.scratch import give_back, scratch

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

    from stainda.prediction.probability_map import ProbabilityMap


def find_instances(
    map_: ProbabilityMap, head: InstanceHead, thresholds: Sequence[float], least: float
) -> gpd.GeoDataFrame:
    """Objects of a probability map with maps of a head, level-0 pixels.

    Foreground is where the probabilities of all classes together reach the lowest of the thresholds. Connected pieces
    of it (over edges) are divided by the head; the class of an object is that with the largest sum of probabilities in
    it, so that one object has one class.

    Args:
        thresholds: by class, in the order of the map's.
        least: smaller objects are left out, pixels of the map.

    Returns:
        Shapes with ``class`` and ``score`` (mean probability of its class over the object).
    """
    from stainda.annotations import make_shapes

    maps = map_.maps
    assert maps is not None, "a map of a task of instances holds the maps of its head"

    def separate(mask: Array, rows: slice, columns: slice) -> Array:
        return head.separate(mask, np.asarray(maps[:, rows, columns], np.float32))

    objects = find_components(_foreground(map_.array), [min(thresholds)], *map_.nodes(), least, separate)
    if len(map_.classes) == 1:
        return make_shapes(objects.outlines, map_.classes[0], score=objects.scores.tolist())
    votes = np.array([_mean_of(map_, outline) for outline in objects.outlines]).reshape(-1, len(map_.classes))
    winners = votes.argmax(1)
    classes = [map_.classes[index] for index in winners.tolist()]
    return make_shapes(objects.outlines, classes, score=votes[np.arange(len(votes)), winners].tolist())


def _foreground(array: Array) -> Array:
    """Probability of any class ``(1, h, w)``, made band by band."""
    if len(array) == 1:
        return array
    _, height, width = array.shape
    out = scratch((1, height, width), np.float32)
    rows = max(1, BAND_VALUES // (len(array) * max(width, 1)))
    for top in range(0, height, rows):
        out[0, top : top + rows] = np.asarray(array[:, top : top + rows], np.float32).sum(0)
        give_back(array)
        give_back(out)
    return out


def _mean_of(map_: ProbabilityMap, outline: BaseGeometry) -> Array:
    """Mean probability of each class over an outline ``(classes,)``."""
    bounds = (np.array(shapely.bounds(outline)) - (map_.x, map_.y, map_.x, map_.y)) / map_.downsample
    left, top = np.maximum(np.floor(bounds[:2]).astype(int), 0)
    right, bottom = np.minimum(np.ceil(bounds[2:]).astype(int), map_.array.shape[:0:-1])
    corner = map_.x + left * map_.downsample, map_.y + top * map_.downsample
    inside = covered(outline, PixelGrid(*corner, int(right - left), int(bottom - top), map_.downsample))
    values = np.asarray(map_.array[:, top:bottom, left:right], np.float64)
    return values[:, inside].mean(1) if inside.any() else values.mean((1, 2))
