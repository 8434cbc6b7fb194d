"""Matching of detected objects with annotated objects.

A pair may match when its intersection over union is at least the threshold. Matching is one-to-one: among all ways to
pair objects, the one with the most matches, and among those the one with the largest sum of IoU, is taken (a linear
assignment, solved per connected group of overlapping objects). Below IoU 0.5 and for overlapping annotations this
differs from greedy matching; from 0.5 on, with objects that do not overlap each other, only one matching exists.

Ignored regions: an annotated object more than half of which lies in an ignored region is left out; so is a detection
that matches nothing and lies more than half in an ignored region or on a left-out object. Objects cut by the border of
what was scored: with ``field``, both sides are clipped to it first, and an annotated object of which less than half is
inside counts as ignored. Without ``field`` objects at the border count as any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely

from stainda.arrays import Array
from stainda.errors import StaindaError
from stainda.objects.assignment import assign
from stainda.objects.overlap import iou_pairs, polygons

if TYPE_CHECKING:
    import geopandas as gpd


@dataclass(frozen=True)
class Matching:
    """Result of matching, for every detected and annotated object.

    Attributes:
        truth: index of the detection that hit each annotated object, -1 missed, -2 left out. int (n_truth,).
        predicted: index of the annotated object each detection hit, -1 false, -2 left out. int (n_predicted,).
        iou: IoU of each annotated object with its detection, ``nan`` without one. float (n_truth,).
    """

    truth: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]

    @property
    def hits(self) -> int:
        return int((self.truth >= 0).sum())

    @property
    def false(self) -> int:
        return int((self.predicted == -1).sum())

    @property
    def missed(self) -> int:
        return int((self.truth == -1).sum())


@dataclass(frozen=True, eq=False)
class OverlapPairs:
    """Annotated and detected objects that could belong together: indices ``truth`` and ``predicted`` (k,), and what
    each pair is worth, ``overlap`` (k,).

    It is their intersection over union; for annotated points it is 1 at no distance from the centre of a detection,
    falling to 0.5, the least of a hit, at ``point_px``; farther ones are no pairs. The geometry of a slide takes
    longest of all that scoring does, so it is done once for all thresholds and measures.
    """

    truth: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    overlap: npt.NDArray[np.float64]

    @classmethod
    def of(cls, truth: Any, predicted: Any, point_px: float | None = None) -> OverlapPairs:
        """Of shapes, see :func:`match_objects`."""
        return cls._of(polygons(truth), polygons(predicted), point_px)

    @classmethod
    def _of(cls, annotated: Array, detected: Array, point_px: float | None) -> OverlapPairs:
        rows, columns, worth = iou_pairs(annotated, detected, valid=True)
        points = np.flatnonzero(_are_points(annotated))
        if point_px is None or not len(points) or not len(detected):
            return cls(rows, columns, worth)
        centres = shapely.centroid(detected)
        near_rows, near = shapely.STRtree(centres).query(annotated[points], predicate="dwithin", distance=point_px)
        near_rows = points[near_rows]
        far = shapely.distance(annotated[near_rows], centres[near]) / point_px
        kept = ~np.isin(rows, points)
        return cls(
            np.concatenate([rows[kept], near_rows]),
            np.concatenate([columns[kept], near]),
            np.concatenate([worth[kept], 1 - 0.5 * far]),
        )


def match_objects(
    truth: gpd.GeoDataFrame,
    predicted: gpd.GeoDataFrame,
    iou: float = 0.5,
    *,
    ignored: gpd.GeoDataFrame | None = None,
    field: tuple[float, float, float, float] | None = None,
    point_px: float | None = None,
    pairs: OverlapPairs | None = None,
) -> Matching:
    """Match polygons, and points by their distance.

    Args:
        truth, predicted: shapes (with a ``geometry`` column) or sequences of shapely polygons, level-0 pixels.
        iou: the least intersection over union of a match, in (0, 1].
        ignored: shapes or polygons of regions that are scored neither for nor against.
        field: (x0, y0, x1, y1) of what was scored; objects are clipped to it.
        point_px: an annotated point is hit by a detection whose centre is at most this far, level-0 pixels; without it
            points match nothing.
        pairs: of these objects, where they are known already; not used with a ``field``, which clips them.
    """
    _check_threshold(iou)
    annotated, detected = polygons(truth), polygons(predicted)
    left_out = np.zeros(len(annotated), bool)
    gone = np.zeros(len(detected), bool)
    if field is not None:
        whole = shapely.area(annotated)
        box = shapely.box(*field)
        annotated, detected = shapely.intersection(annotated, box), shapely.intersection(detected, box)
        left_out |= (shapely.area(annotated) < 0.5 * whole) | shapely.is_empty(annotated)
        gone |= shapely.is_empty(detected) | ((shapely.area(detected) <= 0) & ~_are_points(detected))
    regions = polygons(ignored) if ignored is not None else np.zeros(0, object)
    if len(regions):
        left_out |= _share_inside(annotated, regions) > 0.5
    nothing = shapely.area(annotated) <= 0
    left_out |= nothing if point_px is None else nothing & ~_are_points(annotated)
    if pairs is None or field is not None:
        pairs = OverlapPairs._of(annotated, detected, point_px)
    may = (pairs.overlap >= iou) & ~left_out[pairs.truth]
    kept = pairs.truth[may], pairs.predicted[may], pairs.overlap[may]
    matching = _matching(len(annotated), len(detected), *kept)
    matching.truth[left_out] = -2
    matching.predicted[gone] = -2
    cover = np.concatenate([regions, annotated[left_out]])
    free = np.flatnonzero(matching.predicted == -1)
    if len(cover) and len(free):
        matching.predicted[free[_share_inside(detected[free], cover) > 0.5]] = -2
    return matching


def _are_points(shapes: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(shapely.get_type_id(shapes) == 0, bool)


def match_labels(truth: Array, predicted: Array, iou: float = 0.5, *, ignored: Array | None = None) -> Matching:
    """Match label maps (h, w) of integers, 0 being background; object ``k`` of the result is the k-th label present.

    ``ignored`` is a boolean mask (h, w), treated as the module says.
    """
    _check_threshold(iou)
    if truth.shape != predicted.shape:
        raise StaindaError(f"label maps differ in shape: {truth.shape} and {predicted.shape}")
    truth_names, true_labels = np.unique(truth, return_inverse=True)
    found_names, predicted_labels = np.unique(predicted, return_inverse=True)
    true_labels, predicted_labels = true_labels.reshape(truth.shape), predicted_labels.reshape(truth.shape)
    table = np.bincount(
        (true_labels * len(found_names) + predicted_labels).ravel(), minlength=len(truth_names) * len(found_names)
    )
    table = table.reshape(len(truth_names), len(found_names))
    area_there, area_found = table.sum(axis=1), table.sum(axis=0)
    rows, columns = np.nonzero(table)
    real = (truth_names[rows] != 0) & (found_names[columns] != 0)
    rows, columns = rows[real], columns[real]
    common = table[rows, columns]
    overlap = common / (area_there[rows] + area_found[columns] - common)
    left_out = np.zeros(len(truth_names), bool)
    shadow = np.zeros(truth.shape, bool) if ignored is None else ignored.astype(bool)
    if ignored is not None:
        left_out = np.bincount(true_labels[shadow], minlength=len(truth_names)) > 0.5 * area_there
        left_out &= truth_names != 0
        shadow = shadow | left_out[true_labels]
    may = (overlap >= iou) & ~left_out[rows]
    matching = _matching(len(truth_names), len(found_names), rows[may], columns[may], overlap[may])
    matching.truth[left_out] = -2
    if ignored is not None:
        mostly = np.bincount(predicted_labels[shadow], minlength=len(found_names)) > 0.5 * area_found
        matching.predicted[mostly & (matching.predicted == -1)] = -2
    # indices so far count the background where it is present; drop it
    keep_truth, keep_found = truth_names != 0, found_names != 0
    shift_truth, shift_found = int(not keep_truth.all()), int(not keep_found.all())
    of_truth, of_found = matching.truth[keep_truth], matching.predicted[keep_found]
    of_truth[of_truth >= 0] -= shift_found
    of_found[of_found >= 0] -= shift_truth
    return Matching(of_truth, of_found, matching.iou[keep_truth])


def _matching(n_truth: int, n_predicted: int, rows: Array, columns: Array, overlap: Array) -> Matching:
    chosen = assign(rows, columns, overlap, most_pairs=True)
    truth, predicted = np.full(n_truth, -1, np.int64), np.full(n_predicted, -1, np.int64)
    truth[rows[chosen]], predicted[columns[chosen]] = columns[chosen], rows[chosen]
    ious = np.full(n_truth, np.nan)
    ious[rows[chosen]] = overlap[chosen]
    return Matching(truth, predicted, ious)


def _share_inside(objects: Array, regions: Array) -> npt.NDArray[np.float64]:
    union = shapely.union_all(regions)
    inside = shapely.area(shapely.intersection(objects, union))
    area, points = shapely.area(objects), _are_points(objects)
    share = np.divide(inside, area, out=np.zeros(len(objects)), where=area > 0)
    share[points] = shapely.intersects(objects[points], union)  # a point is in, or it is not
    return share


def _check_threshold(iou: float) -> None:
    if not 0 < iou <= 1:
        raise StaindaError(f"the IoU of a match must be in (0, 1], found {iou}")
