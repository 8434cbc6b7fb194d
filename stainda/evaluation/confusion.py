"""Which classes are mistaken for which: counts of pixels and objects by their annotated and their predicted class.

Objects are matched without regard to their classes, one to one, at the overlap at which they are scored: a sclerotic
glomerulus that was found as a glomerulus is one mistake of class, where the scores of single classes count a missed and
a false object. What was missed was predicted as background, what is false is annotated as background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.evaluation.metrics import labels_from_probabilities, scored_pixels
from stainda.objects.matching import match_objects
from stainda.run_directory.result_tables import CONFUSION

if TYPE_CHECKING:
    import geopandas as gpd

BACKGROUND = "background"
"""Name of what is of no class."""

CONFUSION_COLUMNS = CONFUSION.names
Unit = Literal["pixels", "objects"]


def pixel_confusion(
    predicted: npt.NDArray[Any], truth: npt.NDArray[Any], n_classes: int, used: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Pixels by annotated (row) and predicted class (column), int ``(K + 1, K + 1)``, background first.

    Args:
        predicted, truth: labels (h, w), 0 background, ``i + 1`` the i-th class.
        used: bool (h, w), the pixels that count.
    """
    k = n_classes + 1
    pairs = truth[used].astype(np.int64) * k + predicted[used]
    return np.bincount(pairs, minlength=k * k).reshape(k, k)


def object_confusion(
    predicted: gpd.GeoDataFrame,
    truth: gpd.GeoDataFrame,
    classes: Sequence[str],
    iou: float = 0.5,
    *,
    ignored: gpd.GeoDataFrame | None = None,
    point_px: float | None = None,
) -> npt.NDArray[np.int64]:
    """Objects by annotated (row) and predicted class (column), int ``(K + 1, K + 1)``; no object has [0, 0].

    Args:
        predicted, truth: shapes with the columns ``geometry`` and ``class``, level-0 pixels.
        iou, ignored, point_px: see :func:`~stainda.objects.matching.match_objects`.
    """
    number = {name: index + 1 for index, name in enumerate(classes)}
    annotated = truth[truth["class"].isin(classes)].reset_index(drop=True)
    detected = predicted[predicted["class"].isin(classes)].reset_index(drop=True)
    matching = match_objects(annotated, detected, iou, ignored=ignored, point_px=point_px)
    of_annotated = annotated["class"].map(number).to_numpy(np.int64)
    of_detected = detected["class"].map(number).to_numpy(np.int64)
    counts = np.zeros((len(classes) + 1,) * 2, np.int64)
    hit, missed, false = matching.truth >= 0, matching.truth == -1, matching.predicted == -1
    np.add.at(counts, (of_annotated[hit], of_detected[matching.truth[hit]]), 1)
    np.add.at(counts, (of_annotated[missed], 0), 1)
    np.add.at(counts, (0, of_detected[false]), 1)
    return counts


def confusion_rows(
    counts: Mapping[Unit, npt.NDArray[np.int64]], classes: Sequence[str], where: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Rows of :data:`CONFUSION`, pairs that do not occur left out.

    Args:
        counts: of pixels and of objects, ``(K + 1, K + 1)``.
        where: values of the columns before ``unit``.
    """
    names = (BACKGROUND, *classes)
    return [
        {**where, "unit": unit, "annotated": names[row], "predicted": names[column], "count": int(table[row, column])}
        for unit, table in counts.items()
        for row, column in zip(*np.nonzero(table), strict=True)
    ]


def slide_confusion(
    probabilities: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    classes: Sequence[str],
    *,
    threshold: npt.ArrayLike,
    tissue: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """:func:`pixel_confusion` of probabilities at the thresholds of use, on tissue and annotated pixels.

    Args:
        probabilities: float (n_classes, h, w).
        labels: uint8 (h, w), 0 background, ``i + 1`` the i-th class, 255 ignored.
        threshold: one, or one per class.
        tissue: bool (h, w); pixels of glass are right without having been learned.
    """
    predicted = labels_from_probabilities(probabilities, threshold)
    return pixel_confusion(predicted, labels, len(classes), scored_pixels(labels, tissue))


def confusion_table(rows: pd.DataFrame, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Counts of any number of slides and trainings added up, int ``(n, n)`` in the order of ``names``."""
    sums = rows.groupby(["annotated", "predicted"])["count"].sum()
    return np.array([[int(sums.get((row, column), 0)) for column in names] for row in names], np.int64)
