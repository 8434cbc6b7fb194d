"""Detections by their score: average precision, FROC, panoptic quality.

Average precision follows COCO: detections are taken by falling score, each claims the free annotated object it overlaps
most, if by at least the threshold; the precision is made monotone and read at 101 recalls. Objects that are left out of
scoring (see ``objects``) absorb the detections that lie on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stainda.evaluation.objects import Matching, polygon_overlaps, polygons

Array = npt.NDArray[Any]

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU 0.50, 0.55, … 0.95."""

FROC_RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False detections per slide at which CAMELYON16 reads the sensitivity."""


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

    def __add__(self, other: Ranked) -> Ranked:
        """Detections of two slides together."""
        score, hit = np.concatenate([self.score, other.score]), np.concatenate([self.hit, other.hit])
        order = np.argsort(-score, kind="stable")
        return Ranked(score[order], hit[order], self.n_truth + other.n_truth)


def ranked_detections(truth: Any, predicted: Any, scores: Array, iou: float, matching: Matching) -> Ranked:
    """Give objects to detections greedily by score, as COCO does.

    Args:
        truth, predicted: shapes or polygons, level-0 pixels.
        scores: float (n_predicted,).
        iou: the least overlap of a hit.
        matching: of the same objects; says which of them are left out of scoring.
    """
    there, found = polygons(truth), polygons(predicted)
    scores = np.asarray(scores, float)
    rows, columns, overlap = polygon_overlaps(there, found)
    may = overlap >= iou
    by_detection: dict[int, list[tuple[float, int]]] = {}
    for row, column, value in zip(rows[may], columns[may], overlap[may], strict=True):
        by_detection.setdefault(int(column), []).append((float(value), int(row)))
    left_out = matching.truth == -2
    free = np.ones(len(there), bool)
    hit, counted = np.zeros(len(found), bool), np.ones(len(found), bool)
    order = np.argsort(-scores, kind="stable")
    for index in order:
        offers = [(value, row) for value, row in by_detection.get(int(index), ()) if free[row]]
        real = [offer for offer in offers if not left_out[offer[1]]]
        if real:
            free[max(real, key=lambda offer: offer[0])[1]] = False
            hit[index] = True
        elif offers or matching.predicted[index] == -2:
            counted[index] = False
    order = order[counted[order]]
    return Ranked(scores[order], hit[order], int((~left_out).sum()))


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


def froc(detections: Ranked, n_slides: int, rates: Sequence[float] = FROC_RATES) -> npt.NDArray[np.float64]:
    """Sensitivity at given numbers of false detections per slide, float (len(rates),); ``nan`` without objects.

    The highest sensitivity reached with at most that many; a threshold never splits detections of equal score.
    """
    if detections.n_truth == 0 or n_slides == 0:
        return np.full(len(rates), np.nan)
    ends = np.append(np.diff(detections.score) != 0, True) if len(detections.score) else np.zeros(0, bool)
    sensitivity = np.concatenate([[0.0], np.cumsum(detections.hit)[ends] / detections.n_truth])
    false = np.concatenate([[0.0], np.cumsum(~detections.hit)[ends] / n_slides])
    return np.array([sensitivity[false <= rate + 1e-12].max() for rate in rates])


def panoptic_quality(matching: Matching) -> float:
    """Sum of the IoU of hits over ``hits + false / 2 + missed / 2`` (Kirillov et al. 2019); ``nan`` with nothing there.

    Args:
        matching: made with an IoU of 0.5, from which on pairs of objects that do not overlap each other are unique.
    """
    total = matching.hits + 0.5 * matching.false + 0.5 * matching.missed
    return float(np.nansum(matching.iou[matching.truth >= 0]) / total) if total else float("nan")
