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
from stainda.prediction.points import APART as POINTS_APART
from stainda.prediction.points import heat_peaks
from stainda.prediction.probability_map import ProbabilityMap

if TYPE_CHECKING:
    import geopandas as gpd

APART = 0.75
"""Diameters that two discs of one class are apart, at least: of nearer ones the less probable is dropped."""

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
    Of a map of cells with ``objects: peaks``: discs, see :func:`disc_peaks`. Of a task of instances: connected pixels
    divided by the maps of its head, see :func:`~stainda.prediction.instance_objects.find_instances`. Of one of points:
    points, see :func:`~stainda.prediction.points.heat_peaks`.

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
    """Of the disc about a point, pixels of the map."""
    if task.sigma_um is None or (task.sigma_px is not None and map_.mpp is None and patch_mpp is None):
        assert task.sigma_px is not None
        return task.sigma_px / map_.downsample
    what = f"points with discs of {task.sigma_um} µm are requested"
    return task.sigma_um / _pixel_um(map_, patch_mpp, what, "sigma_px in place of sigma_um")


def disc_peaks(shares: Array, diameter: float, threshold: float) -> tuple[Array, Array]:
    """Where discs of one size lie best.

    A disc is placed where the mean probability over it is a local maximum, if the mean over its inner half (of half the
    diameter) reaches the threshold. The best come first; a disc nearer than :data:`APART` diameters to a better one is
    dropped (non-maximum suppression). A plateau of equal means counts as one maximum at its middle.

    Args:
        shares: probability of one class, float ``(h, w)``.
        diameter: of the discs, pixels of the map.

    Returns:
        Centres x, y, float ``(n, 2)``, in pixels from the corner of the map, and mean probabilities ``(n,)``.
    """
    from scipy import ndimage
    from scipy.spatial import cKDTree

    shares = np.asarray(shares, np.float32)
    disc = _disc(diameter / 2)
    mean = _mean_over(shares, disc)
    inner = _mean_over(shares, _disc(diameter / 4))
    top = (mean >= ndimage.maximum_filter(mean, footprint=disc) - 1e-6) & (inner >= threshold) & (mean > 1e-6)
    labels, count = ndimage.label(top, structure=np.ones((3, 3)))
    if not count:
        return np.zeros((0, 2)), np.zeros(0)
    numbers = np.arange(1, count + 1)
    worth = np.asarray(ndimage.maximum(mean, labels, numbers), float)
    centres = np.asarray(ndimage.center_of_mass(top, labels, numbers), float)[:, ::-1] + 0.5
    order = np.lexsort((centres[:, 0], centres[:, 1], -worth))
    near = cKDTree(centres)
    dropped, kept = np.zeros(count, bool), []
    for place in order:
        if not dropped[place]:
            kept.append(place)
            dropped[near.query_ball_point(centres[place], APART * diameter * (1 - 1e-6))] = True
    return centres[kept], worth[kept]


def _mean_over(shares: Array, disc: Array) -> Array:
    from scipy.signal import oaconvolve

    mean = oaconvolve(shares, (disc / disc.sum()).astype(np.float32), mode="same")
    return np.clip(mean, 0.0, 1.0)


def _disc(radius: float) -> Array:
    """Pixels whose centres lie within ``radius`` of the middle one's, bool, of odd size."""
    reach = max(0, int(np.floor(radius)))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return x**2 + y**2 <= max(radius, 0.5) ** 2


def _discs(centres: Array, diameter: float, map_: ProbabilityMap) -> list[object]:
    import shapely

    width, height = map_.shown
    corner = np.array([map_.x, map_.y])
    at = np.minimum(centres * map_.downsample, np.nextafter((width, height), 0)) + corner
    discs = shapely.buffer(shapely.points(at), 0.5 * diameter * map_.downsample, quad_segs=8)
    return list(shapely.intersection(discs, shapely.box(*corner, map_.x + width, map_.y + height)))


def _diameter(map_: ProbabilityMap, task: TaskConfig, patch_mpp: float | None) -> float:
    """Of the discs, pixels of the map; in micrometres where those can be known."""
    if task.object_um is None or (task.object_px is not None and map_.mpp is None and patch_mpp is None):
        assert task.object_px is not None
        return task.object_px / map_.downsample
    what = f"objects of {task.object_um} µm are requested"
    return task.object_um / _pixel_um(map_, patch_mpp, what, "object_px in place of object_um")


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
