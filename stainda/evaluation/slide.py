"""One slide, predicted and annotated, to scores with their counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stainda.evaluation.metrics import (
    MEASURES,
    OBJECT_MEASURES,
    PIXEL_MEASURES,
    labels_from_probabilities,
    pixel_counts,
)
from stainda.evaluation.objects import match_objects


@dataclass(frozen=True)
class Score:
    """One measure of one class on one slide. Counts are of pixels or of objects, ``nan`` for measures without any."""

    cls: str
    measure: str
    value: float
    tp: float = float("nan")
    fp: float = float("nan")
    fn: float = float("nan")


def score_slide(
    predicted: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    classes: Sequence[str],
    predicted_shapes: Any = None,
    truth_shapes: Any = None,
    *,
    iou: float = 0.5,
    threshold: npt.ArrayLike = 0.5,
    ignored: Any = None,
    field: tuple[float, float, float, float] | None = None,
) -> list[Score]:
    """Score one slide.

    Args:
        predicted: labels (h, w) of integers, or probabilities float (n_classes, h, w) without background.
        truth: labels uint8 (h, w), 0 background, ``i + 1`` the i-th class, 255 ignored.
        classes: names of the classes in the order of the labels.
        predicted_shapes, truth_shapes: shapes with columns ``geometry`` and ``class``, level-0 pixels. Without
            them no object measure is returned.
        iou: overlap from which an object is hit.
        threshold: one probability, or one per class, from which a pixel is of the class (probabilities only).
        ignored: shapes of regions that are not scored (objects only; pixels say it with 255).
        field: (x0, y0, x1, y1) level-0 pixels that were predicted, where that is not the whole slide.

    Returns:
        Pixel measures and, with shapes, object measures of every class. A value is ``nan`` where it cannot be said
        (nothing there and nothing found); its counts say which case it was.
    """
    predicted = np.asarray(predicted)
    labels = labels_from_probabilities(predicted, threshold) if predicted.ndim == 3 else predicted
    scores: list[Score] = []
    for name, counts in zip(classes, pixel_counts(labels, np.asarray(truth), len(classes)), strict=True):
        scores += _from_counts(name, PIXEL_MEASURES, counts)
    if predicted_shapes is not None and truth_shapes is not None:
        for name in classes:
            there = truth_shapes[truth_shapes["class"] == name]
            found = predicted_shapes[predicted_shapes["class"] == name]
            matching = match_objects(there, found, iou, ignored=ignored, field=field)
            scores += _from_counts(name, OBJECT_MEASURES, (matching.hits, matching.false, matching.missed))
    return scores


def _from_counts(name: str, measures: Sequence[str], counts: Sequence[int] | npt.NDArray[np.int64]) -> list[Score]:
    tp, fp, fn = (float(count) for count in counts)
    formulas = ((one, MEASURES[one].formula) for one in measures)
    return [Score(name, one, float(formula(tp, fp, fn)), tp, fp, fn) for one, formula in formulas if formula]
