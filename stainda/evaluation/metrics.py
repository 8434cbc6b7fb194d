"""Pixel counts, and the measures that follow from counts.

A measure of counts is a function of true positives, false positives and false negatives alone, so that it can be
computed per slide, and again after the counts of several slides or patients have been added. What cannot be said is
``nan``, never 1 or 0: a Dice of 1 for "nothing there, nothing found" would reward slides without objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stainda.arrays import Array
from stainda.errors import StaindaError, did_you_mean

IGNORED = 255
"""The label of pixels that are scored neither for nor against (see ``annotations.rasterise``)."""


def divide(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Array:
    """Elementwise quotient; ``nan`` where the denominator is 0."""
    top, bottom = np.asarray(numerator, float), np.asarray(denominator, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def dice(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike) -> Array:
    """2 tp / (2 tp + fp + fn), which is also F1; ``nan`` where nothing is there and nothing was found."""
    tp, fp, fn = np.asarray(tp, float), np.asarray(fp, float), np.asarray(fn, float)
    return divide(2 * tp, 2 * tp + fp + fn)


def iou(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike) -> Array:
    """tp / (tp + fp + fn), the Jaccard index; ``nan`` where nothing is there and nothing was found."""
    tp, fp, fn = np.asarray(tp, float), np.asarray(fp, float), np.asarray(fn, float)
    return divide(tp, tp + fp + fn)


def precision(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike = 0) -> Array:
    """tp / (tp + fp); 0, the worst value, where nothing was found though something is there (as Metrics Reloaded treats
    missing predictions, Maier-Hein et al. 2024); ``nan`` where nothing is there either."""
    tp, fp, fn = np.asarray(tp, float), np.asarray(fp, float), np.asarray(fn, float)
    return np.where((tp + fp == 0) & (fn > 0), 0.0, divide(tp, tp + fp))


def recall(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike) -> Array:
    """tp / (tp + fn); ``nan`` where nothing is there."""
    tp, fn = np.asarray(tp, float), np.asarray(fn, float)
    return divide(tp, tp + fn)


@dataclass(frozen=True)
class Measure:
    """What a number in the records means.

    ``source`` says how slides of one patient become one number: the counts of ``pixel`` and ``object`` measures are
    added and ``formula`` is applied to the sums; the values of ``value`` measures are averaged.
    """

    name: str
    title: str
    source: Literal["pixel", "object", "value"]
    formula: Callable[[Any, Any, Any], Array] | None = None
    unit: str = ""
    low: float | None = 0.0
    high: float | None = 1.0
    higher_is_better: bool = True
    description: str = ""


_PIXEL = (
    Measure("dice", "Dice", "pixel", dice, description="2 tp / (2 tp + fp + fn) of pixels; equals pixel F1"),
    Measure("iou", "IoU", "pixel", iou, description="tp / (tp + fp + fn) of pixels"),
    Measure("precision", "Precision", "pixel", precision, description="share of the pixels found that are right"),
    Measure("recall", "Recall", "pixel", recall, description="share of the annotated pixels that were found"),
)
_OBJECT = (
    Measure("object_f1", "Object F1", "object", dice, description="2 hits / (2 hits + false + missed)"),
    Measure("object_precision", "Object precision", "object", precision, description="share of detections that hit"),
    Measure("object_recall", "Object recall", "object", recall, description="share of annotated objects that were hit"),
)
_CURVE = (
    Measure("auroc", "AUROC", "value", description="area under the ROC curve of pixels of tissue; no threshold"),
    Measure("auprc", "AUPRC", "value", description="average precision of pixels of tissue; no threshold"),
    Measure(
        "ece", "Calibration error", "value", higher_is_better=False,
        description="mean distance between probability and share of the class, over bins of probability; tissue alone",
    ),
)  # fmt: skip
_BOUNDARY = (
    Measure(
        "hausdorff_95", "Hausdorff 95", "value", unit="µm", high=None, higher_is_better=False,
        description="95th percentile of the distance between outlines; the diagonal where only one is there",
    ),
    Measure(
        "surface_distance", "Surface distance", "value", unit="µm", high=None, higher_is_better=False,
        description="average symmetric distance between outlines; the diagonal where only one is there",
    ),
)  # fmt: skip
_RANKED = (
    Measure("ap50", "AP at IoU 0.5", "value", description="average precision of all candidates of all slides, IoU 0.5"),
    Measure(
        "ap", "AP at IoU 0.5:0.95", "value",
        description="mean average precision of all candidates of all slides (COCO), IoU 0.5 to 0.95",
    ),
    Measure(
        "panoptic_quality", "Panoptic quality", "value", description="sum of IoU of hits / (hits + half the errors)"
    ),
    Measure(
        "detection_quality", "Detection quality (PQ)", "value",
        description="hits / (hits + half the errors) at IoU 0.5: the first factor of panoptic quality",
    ),
    Measure(
        "segmentation_quality", "Segmentation quality (PQ)", "value",
        description="mean IoU of hits at IoU 0.5: the second factor of panoptic quality",
    ),
    Measure(
        "merged_objects", "Merged objects", "value", higher_is_better=False,
        description="share of annotated objects that lie mostly in a detection which holds most of another one, too",
    ),
    Measure(
        "divided_objects", "Divided objects", "value", higher_is_better=False,
        description="share of annotated objects in which most of two or more detections lies",
    ),
    Measure("aji", "AJI", "value", description="aggregated Jaccard index of objects (Kumar et al. 2017)"),
)  # fmt: skip
MEASURES: dict[str, Measure] = {measure.name: measure for measure in (*_PIXEL, *_OBJECT, *_CURVE, *_BOUNDARY, *_RANKED)}
"""Every measure that records may hold, by name; :func:`register` adds one."""

PIXEL_MEASURES = tuple(measure.name for measure in _PIXEL)
OBJECT_MEASURES = tuple(measure.name for measure in _OBJECT)
CURVE_MEASURES = tuple(measure.name for measure in _CURVE)
BOUNDARY_MEASURES = tuple(measure.name for measure in _BOUNDARY)
RANKED_MEASURES = tuple(measure.name for measure in _RANKED)


def register(*measures: Measure) -> tuple[str, ...]:
    """Add measures to :data:`MEASURES` and return their names."""
    for measure in measures:
        MEASURES[measure.name] = measure
    return tuple(measure.name for measure in measures)


def measure(name: str) -> Measure:
    """The measure of that name.

    Raises:
        StaindaError: there is none; the message names the nearest.
    """
    if name not in MEASURES:
        raise StaindaError(f"unknown measure {name!r}", remedy=did_you_mean(name, MEASURES))
    return MEASURES[name]


def scored_pixels(truth: Array, tissue: Array | None = None) -> npt.NDArray[np.bool_]:
    """Pixels whose probabilities are scored, bool (h, w): not ignored, and of tissue or annotated.

    Glass is most of a slide and easy: counted as correct zeros it would make every calibration error small.
    """
    used = np.asarray(truth) != IGNORED
    return used if tissue is None else used & (np.asarray(tissue, bool) | (truth > 0))


def direction(name: str) -> float:
    """1, or -1 for a distance or an error: what is better is higher once multiplied with it."""
    known = MEASURES.get(name)
    return 1.0 if known is None or known.higher_is_better else -1.0


def pixel_counts(predicted: Array, truth: Array, n_classes: int) -> npt.NDArray[np.int64]:
    """Count pixels of every class.

    Args:
        predicted: integer labels (h, w); 0 is background, ``i + 1`` the i-th class.
        truth: the same, with 255 for ignored pixels, which are not counted at all.
        n_classes: how many classes, without background.

    Returns:
        int64 (n_classes, 3): true positives, false positives, false negatives of pixels.

    Raises:
        StaindaError: the shapes differ, or a label is larger than ``n_classes``.
    """
    if predicted.shape != truth.shape:
        raise StaindaError(
            f"predicted labels are {predicted.shape} pixels, the truth {truth.shape}",
            remedy="Rasterise both on the same grid",
        )
    used = truth != IGNORED
    predicted_used, true_used = predicted[used].astype(np.int64), truth[used].astype(np.int64)
    for name, labels in (("predicted", predicted_used), ("true", true_used)):
        if labels.size and (labels.max() > n_classes or labels.min() < 0):
            raise StaindaError(f"a {name} label is outside 0..{n_classes}", remedy="Check the list of classes")
    table = np.bincount(true_used * (n_classes + 1) + predicted_used, minlength=(n_classes + 1) ** 2)
    table = table.reshape(n_classes + 1, n_classes + 1)
    hits = np.diagonal(table)[1:]
    return np.stack([hits, table.sum(axis=0)[1:] - hits, table.sum(axis=1)[1:] - hits], axis=1).astype(np.int64)


def labels_from_probabilities(probabilities: Array, threshold: npt.ArrayLike = 0.5) -> npt.NDArray[np.uint8]:
    """Labels uint8 (h, w) from probabilities (n_classes, h, w) without a background channel.

    A pixel gets its most probable class among those that reach their own threshold, and 0 where none does.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 3:
        raise StaindaError(f"probabilities must be (classes, height, width), found shape {probabilities.shape}")
    limits = np.broadcast_to(np.asarray(threshold, float), (probabilities.shape[0],))[:, None, None]
    kept = np.where(probabilities >= limits, probabilities, -1.0)
    return np.where(kept.max(axis=0) >= 0, kept.argmax(axis=0) + 1, 0).astype(np.uint8)
