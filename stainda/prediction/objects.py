"""Probability maps to objects: connected pixels, split where objects touch, or discs at peaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stainda.arrays import Array
from stainda.config import TaskConfig
from stainda.errors import SlideError
from stainda.instances import build_head
from stainda.prediction.components import at_necks, classify, find_components
from stainda.prediction.instance_objects import find_instances
from stainda.prediction.peaks import POINTS_APART, disc_peaks, heat_peaks
from stainda.prediction.probability_map import ProbabilityMap

if TYPE_CHECKING:
    import geopandas as gpd

LARGE = 2**28
"""Values from which a map is kept in half precision."""


def label_map(probability_map: ProbabilityMap, thresholds: Sequence[float]) -> Array:
    """uint8 ``(h, w)``: 0, or 1 + index of the most probable class among those above their thresholds."""
    return classify(probability_map.array, np.asarray(thresholds, np.float64))


def find_objects(
    probability_map: ProbabilityMap, task: TaskConfig, thresholds: Sequence[float], patch_mpp: float | None
) -> gpd.GeoDataFrame:
    """Objects of a probability map, level-0 pixels.

    Of a map of pixels, and of one of cells with ``objects: components``: connected pixels (quarters of cells) above the
    threshold of their class, cut at necks with ``split_touching``; those below the task's minimum size are left out.
    Their outlines run between the middles of pixels, where the probability crosses the threshold, and end with the
    slide. The map is looked at in bands of rows.
    Of a map of cells with ``objects: peaks``: discs, see :func:`~stainda.prediction.peaks.disc_peaks`.
    Of a task of instances: connected pixels divided by the maps of its head, see
    :func:`~stainda.prediction.instance_objects.find_instances`.
    Of one of points: points, see :func:`~stainda.prediction.peaks.heat_peaks`.

    Args:
        thresholds: by class, in the order of the map's.
        patch_mpp: micrometres per pixel the network sees, where the job fixes them.

    Returns:
        Shapes with ``class`` and ``score`` (mean probability over the object).

    Raises:
        SlideError: a size is in µm and the slide's pixel size is not known.
    """
    from stainda.annotations import join_shapes, make_shapes

    fine = probability_map.finer()
    if task.kind == "classification" and task.objects == "peaks":
        diameter, tables = _diameter(fine, task, patch_mpp), []
        for cls, shares, threshold in zip(fine.classes, fine.array, thresholds, strict=True):
            centres, scores = disc_peaks(shares, diameter, threshold)
            tables.append(make_shapes(_discs(centres, diameter, fine), cls, score=scores.tolist()))
        return join_shapes(tables)
    if task.kind == "points":
        return join_shapes([_points(fine, index, task, thresholds, patch_mpp) for index in range(len(fine.classes))])
    least = task.min_object_px / fine.downsample**2
    if task.min_object_um2 is not None:
        what = f"objects below {task.min_object_um2} µm² are to be left out"
        pixel = _pixel_um(fine, patch_mpp, what, "min_object_px in place of min_object_um2")
        least = max(least, task.min_object_um2 / pixel**2)
    if task.kind == "instances":
        return find_instances(fine, build_head(task.instances), thresholds, least)
    split = at_necks if task.split_touching else None
    objects = find_components(fine.array, thresholds, *fine.nodes(), least, split)
    classes = [fine.classes[index] for index in objects.classes.tolist()]
    return make_shapes(objects.outlines, classes, score=objects.scores.tolist())


FAINTEST = 0.05
"""Probability down to which candidates are looked for; COCO's ranking asks for all detections, not those above the
threshold of use."""


def find_candidates(
    objects: gpd.GeoDataFrame,
    probability_map: ProbabilityMap,
    task: TaskConfig,
    thresholds: Sequence[float],
    patch_mpp: float | None,
) -> gpd.GeoDataFrame:
    """Objects, and fainter ones where they have none: what a ranking by score is made of.

    The thresholds are halved down to :data:`FAINTEST`; of each step those objects are added that touch no earlier one
    of their class, so that an object keeps the outline it has at the threshold of use.
    """
    import geopandas as gpd
    import pandas as pd
    import shapely

    discs = task.kind == "points" or (task.kind == "classification" and task.objects == "peaks")
    every, limits = objects, np.asarray(thresholds, float)
    while (limits > FAINTEST).any():
        limits = np.minimum(limits, np.maximum(limits / 2, FAINTEST))
        more = find_objects(probability_map, task, limits.tolist(), patch_mpp)
        fresh = np.ones(len(more), bool)
        for cls in probability_map.classes:
            mine, earlier = np.flatnonzero(more["class"] == cls), every.geometry[every["class"] == cls].to_numpy()
            if len(mine) and len(earlier):
                shapes = more.geometry.to_numpy()[mine]
                shapes = shapely.centroid(shapes) if discs else shapes  # neighbouring discs overlap
                tree = shapely.STRtree(earlier)
                if task.kind == "points":
                    apart = _apart(probability_map, task, patch_mpp)
                    near = tree.query(shapes, predicate="dwithin", distance=apart)[0]
                else:
                    near = tree.query(shapes, predicate="intersects")[0]
                fresh[mine[near]] = False
        if fresh.any():
            every = gpd.GeoDataFrame(pd.concat([every, more[fresh]], ignore_index=True), geometry="geometry")
    return every


def _points(
    map_: ProbabilityMap, index: int, task: TaskConfig, thresholds: Sequence[float], patch_mpp: float | None
) -> gpd.GeoDataFrame:
    """Points of one class, level-0 pixels, with the height of the peak as ``score``."""
    import shapely

    from stainda.annotations import make_shapes

    centres, scores = heat_peaks(map_.array[index], _sigma(map_, task, patch_mpp), thresholds[index])
    at = np.minimum(centres * map_.downsample, np.nextafter(map_.shown, 0)) + np.array([map_.x, map_.y])
    return make_shapes(list(shapely.points(at)), map_.classes[index], score=scores.tolist())


def _apart(map_: ProbabilityMap, task: TaskConfig, patch_mpp: float | None) -> float:
    """Within this distance two points are one, level-0 pixels."""
    return POINTS_APART * _sigma(map_, task, patch_mpp) * map_.downsample


def _sigma(map_: ProbabilityMap, task: TaskConfig, patch_mpp: float | None) -> float:
    """Standard deviation of the disc about a point, pixels of the map."""
    return _length(map_, patch_mpp, task.sigma_um, task.sigma_px, ("points with discs of", "sigma"))


def _discs(centres: Array, diameter: float, map_: ProbabilityMap) -> list[object]:
    import shapely

    width, height = map_.shown
    corner = np.array([map_.x, map_.y])
    at = np.minimum(centres * map_.downsample, np.nextafter((width, height), 0)) + corner
    discs = shapely.buffer(shapely.points(at), 0.5 * diameter * map_.downsample, quad_segs=8)
    return list(shapely.intersection(discs, shapely.box(*corner, map_.x + width, map_.y + height)))


def _diameter(map_: ProbabilityMap, task: TaskConfig, patch_mpp: float | None) -> float:
    """Of the discs, pixels of the map."""
    return _length(map_, patch_mpp, task.object_um, task.object_px, ("objects of", "object"))


def _length(
    map_: ProbabilityMap, patch_mpp: float | None, um: float | None, px: float | None, words: tuple[str, str]
) -> float:
    """A length that a task gives in µm, level-0 pixels or both, in pixels of the map; in µm where that can be known.

    Args:
        words: what is of that length, and its setting without ``_um``, for the error.
    """
    if um is None or (px is not None and map_.mpp is None and patch_mpp is None):
        assert px is not None
        return px / map_.downsample
    what, setting = words
    return um / _pixel_um(map_, patch_mpp, f"{what} {um} µm are requested", f"{setting}_px in place of {setting}_um")


def _pixel_um(map_: ProbabilityMap, patch_mpp: float | None, what: str, instead: str) -> float:
    """Micrometres per pixel of the map."""
    if patch_mpp is not None:
        return patch_mpp * map_.cell
    if map_.mpp is None:
        raise SlideError(
            f"{what} and the pixel size is not known",
            remedy=f"Give the slide's pixel size (--mpp, or the manifest's column mpp), or set task.{instead}",
        )
    return map_.mpp * map_.downsample
