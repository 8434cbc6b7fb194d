"""Detections by their score: average precision, FROC, panoptic quality.

Average precision follows COCO: detections are taken by falling score, each claims the free annotated object it overlaps
most, if by at least the threshold; the precision is made monotone and read at 101 recalls. Objects that are left out of
scoring (see ``objects``) absorb the detections that lie on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely

from stainda.arrays import Array
from stainda.objects.matching import Matching, OverlapPairs, match_objects
from stainda.objects.overlap import polygons

if TYPE_CHECKING:
    import geopandas as gpd


COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU 0.50, 0.55, … 0.95."""

FROC_RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False detections per mm² of tissue at which the sensitivity is read; the numbers are those CAMELYON16 reads per
slide, but slides differ in their tissue a hundredfold."""


@dataclass(frozen=True)
class Ranked:
    """Detections by falling score, and what became of them at one threshold; those left out are not among them.

    Attributes:
        score: float (n,).
        hit: bool (n,).
        n_truth: annotated objects that count.
    """

    score: npt.NDArray[np.float64]
    hit: npt.NDArray[np.bool_]
    n_truth: int
    iou: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """With the object claimed, ``nan`` without; empty where it is not known."""
    place: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Which detection it is of those given; empty where it is not known."""

    def __add__(self, other: Ranked) -> Ranked:
        """Detections of two slides together."""
        # the overlaps of two slides are of no further use
        score, hit = np.concatenate([self.score, other.score]), np.concatenate([self.hit, other.hit])
        order = np.argsort(-score, kind="stable")
        return Ranked(score[order], hit[order], self.n_truth + other.n_truth)


def ranked_detections(pairs: OverlapPairs, scores: Array, iou: float, matching: Matching) -> Ranked:
    """Give objects to detections greedily by score, as COCO does.

    Args:
        pairs: of annotated and detected objects.
        scores: float (n_predicted,).
        iou: the least overlap of a hit.
        matching: of the same objects; says which of them are left out of scoring.
    """
    scores = np.asarray(scores, float)
    may = pairs.overlap >= iou
    by_detection: dict[int, list[tuple[float, int]]] = {}
    for row, column, value in zip(pairs.truth[may], pairs.predicted[may], pairs.overlap[may], strict=True):
        by_detection.setdefault(int(column), []).append((float(value), int(row)))
    left_out = matching.truth == -2
    n = len(scores)
    free = np.ones(len(left_out), bool)
    hit, counted, claimed = np.zeros(n, bool), np.ones(n, bool), np.full(n, np.nan)
    order = np.argsort(-scores, kind="stable")
    for index in order:
        offers = [(value, row) for value, row in by_detection.get(int(index), ()) if free[row]]
        real = [offer for offer in offers if not left_out[offer[1]]]
        if real:
            claimed[index], row = max(real, key=lambda offer: offer[0])
            free[row], hit[index] = False, True
        elif offers or matching.predicted[index] == -2:
            counted[index] = False
    order = order[counted[order]]
    return Ranked(scores[order], hit[order], int((~left_out).sum()), claimed[order], order)


@dataclass(frozen=True)
class Candidates:
    """Candidates by falling score; arrays (n,).

    Attributes:
        iou: of the object each claimed at 0.5, ``nan`` without.
        hits: bit i is set where it hits at the i-th of :data:`COCO_THRESHOLDS`. A candidate of low overlap takes an
            object from a better one at 0.5 and not at 0.75, so ``iou`` alone does not say it.
    """

    score: npt.NDArray[np.float64]
    iou: npt.NDArray[np.float64]
    hits: npt.NDArray[np.int64]


def ranked_candidates(
    truth: gpd.GeoDataFrame,
    candidates: gpd.GeoDataFrame,
    ignored: gpd.GeoDataFrame | None = None,
    point_px: float | None = None,
) -> Candidates:
    """Candidates of one class with a column ``score`` in their ranking, without those left out at 0.5."""
    pairs = OverlapPairs.of(truth, candidates, point_px)
    matching = match_objects(truth, candidates, 0.5, ignored=ignored, point_px=point_px, pairs=pairs)
    scores = candidates["score"].to_numpy(float)
    detections = ranked_detections(pairs, scores, 0.5, matching)
    hits = np.zeros(len(scores), np.int64)
    for bit, iou in enumerate(COCO_THRESHOLDS):
        at = ranked_detections(pairs, scores, iou, matching)
        hits[at.place[at.hit]] |= 1 << bit
    return Candidates(detections.score, detections.iou, hits[detections.place])


def aggregated_jaccard(truth: Any, predicted: Any, matching: Matching, pairs: OverlapPairs | None = None) -> float:
    """Aggregated Jaccard index (Kumar et al., IEEE TMI 2017, algorithm 1); ``nan`` where nothing is there or found.

    Each annotated object takes the prediction of the highest IoU; the sum of the intersections over the sum of the
    unions, to which the areas of predictions that nobody took are added. Objects left out by ``matching`` are in
    neither. Shapes have an area; ``pairs`` of them, where they are known already.
    """
    annotated, detected = polygons(truth), polygons(predicted)
    pairs = OverlapPairs.of(annotated, detected) if pairs is None else pairs
    rows, columns, overlap = pairs.truth, pairs.predicted, pairs.overlap
    kept = (matching.truth[rows] != -2) & (matching.predicted[columns] != -2)
    rows, columns, overlap = rows[kept], columns[kept], overlap[kept]
    areas, found_areas = shapely.area(annotated), shapely.area(detected)
    both = union = 0.0
    used = np.zeros(len(detected), bool)
    for row in np.flatnonzero(matching.truth != -2):
        mine = np.flatnonzero(rows == row)
        if not len(mine):
            union += areas[row]
            continue
        best = mine[overlap[mine].argmax()]
        whole = (areas[row] + found_areas[columns[best]]) / (1 + overlap[best])  # |A| + |B| = |A or B| (1 + IoU)
        both, union = both + overlap[best] * whole, union + whole
        used[columns[best]] = True
    union += float(found_areas[~used & (matching.predicted != -2)].sum())
    return both / union if union > 0 else float("nan")


def average_precision(detections: Ranked) -> float:
    """COCO's average precision at one threshold; ``nan`` where nothing is annotated."""
    if detections.n_truth == 0:
        return float("nan")
    hits = np.cumsum(detections.hit)
    recall = hits / detections.n_truth
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[np.minimum(place, len(precision))].mean())


def froc(detections: Ranked, tissue_mm2: float, rates: Sequence[float] = FROC_RATES) -> npt.NDArray[np.float64]:
    """Sensitivity at given numbers of false detections per mm² of tissue, float (len(rates),).

    ``nan`` without objects, and where the area of tissue is not known.

    The highest sensitivity reached with at most that many; a threshold never splits detections of equal score.
    """
    if detections.n_truth == 0 or not tissue_mm2 > 0:
        return np.full(len(rates), np.nan)
    ends = np.append(np.diff(detections.score) != 0, True) if len(detections.score) else np.zeros(0, bool)
    sensitivity = np.concatenate([[0.0], np.cumsum(detections.hit)[ends] / detections.n_truth])
    false = np.concatenate([[0.0], np.cumsum(~detections.hit)[ends] / tissue_mm2])
    return np.array([sensitivity[false <= rate + 1e-12].max() for rate in rates])


def panoptic_factors(matching: Matching) -> tuple[float, float]:
    """Detection quality, ``hits / (hits + false / 2 + missed / 2)``, and segmentation quality, the mean IoU of hits:
    their product is :func:`panoptic_quality`; ``nan`` with nothing there, the second also without a hit."""
    total = matching.hits + (matching.false + matching.missed) / 2
    hit = matching.iou[matching.truth >= 0]
    detection = matching.hits / total if total else float("nan")
    return detection, float(hit.mean()) if len(hit) else float("nan")


def panoptic_quality(matching: Matching) -> float:
    """Sum of the IoU of hits over ``hits + false / 2 + missed / 2`` (Kirillov et al. 2019); ``nan`` with nothing there.

    Args:
        matching: made with an IoU of 0.5, from which on pairs of objects that do not overlap each other are unique.
    """
    total = matching.hits + 0.5 * matching.false + 0.5 * matching.missed
    return float(np.nansum(matching.iou[matching.truth >= 0]) / total) if total else float("nan")
