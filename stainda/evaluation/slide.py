"""One slide, predicted and annotated, to scores with their counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely

from stainda.evaluation.boundaries import surface_distances
from stainda.evaluation.curves import ProbabilityCounts
from stainda.evaluation.detection import aggregated_jaccard, panoptic_factors, panoptic_quality
from stainda.evaluation.metrics import (
    IGNORED,
    MEASURES,
    OBJECT_MEASURES,
    PIXEL_MEASURES,
    labels_from_probabilities,
    pixel_counts,
    scored_pixels,
)
from stainda.objects.matching import Matching, OverlapPairs, match_objects
from stainda.objects.overlap import polygons
from stainda.objects.separation import separation_counts

if TYPE_CHECKING:
    import geopandas as gpd


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
    predicted_shapes: gpd.GeoDataFrame | None = None,
    truth_shapes: gpd.GeoDataFrame | None = None,
    *,
    iou: float = 0.5,
    threshold: npt.ArrayLike = 0.5,
    ignored: gpd.GeoDataFrame | None = None,
    field: tuple[float, float, float, float] | None = None,
    um_per_px: float | None = None,
    tissue: npt.NDArray[np.bool_] | None = None,
    point_px: float | None = None,
    instances: bool = False,
    points: bool = False,
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
        um_per_px: micrometres per pixel of ``truth``; without it no distance between outlines is returned.

        tissue: bool (h, w); probabilities are scored on tissue (and annotated pixels) alone.
        point_px: distance within which an annotated point is hit, level-0 pixels.
        instances: whether objects that touch were separated; then more of their measures are returned.
        points: whether objects are points: they have no overlap to speak of, also where there are none.

    Returns:
        Pixel measures, those of probabilities where there are any, of outlines with ``um_per_px``, and of objects with
        shapes, of every class. A value is ``nan`` where it cannot be said (nothing there and nothing found); its counts
        say which case it was.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    labels = labels_from_probabilities(predicted, threshold) if predicted.ndim == 3 else predicted
    scores: list[Score] = []
    for index, counts in enumerate(pixel_counts(labels, truth, len(classes))):
        scores += _from_counts(classes[index], PIXEL_MEASURES, counts)
        if predicted.ndim == 3:
            scores += _of_probabilities(classes[index], predicted[index], truth, index + 1, tissue)
        if um_per_px is not None:
            distances = surface_distances(labels == index + 1, truth == index + 1, um_per_px, truth == IGNORED)
            scores.append(Score(classes[index], "hausdorff_95", distances.hausdorff_95))
            scores.append(Score(classes[index], "surface_distance", distances.mean))
    if predicted_shapes is not None and truth_shapes is not None:
        for name in classes:
            annotated = truth_shapes[truth_shapes["class"] == name]
            found_here = predicted_shapes[predicted_shapes["class"] == name]
            pairs = None if field is not None else OverlapPairs.of(annotated, found_here, point_px)
            match = partial(
                match_objects, annotated, found_here, ignored=ignored, field=field, point_px=point_px, pairs=pairs
            )
            matching = match(iou)
            scores += _from_counts(name, OBJECT_MEASURES, (matching.hits, matching.false, matching.missed))
            at_half = matching if iou == 0.5 else match(0.5)
            clipped = _clipped(annotated, field), _clipped(found_here, field)
            if not points and not _only_points(*clipped):
                of_areas = pairs if point_px is None else None
                scores.append(Score(name, "panoptic_quality", panoptic_quality(at_half)))
                scores.append(Score(name, "aji", aggregated_jaccard(*clipped, at_half, of_areas)))
            if instances:
                scores += _of_separation(name, *clipped, at_half)
    return scores


def _from_counts(name: str, measures: Sequence[str], counts: Sequence[int] | npt.NDArray[np.int64]) -> list[Score]:
    tp, fp, fn = (float(count) for count in counts)
    formulas = ((measure, MEASURES[measure].formula) for measure in measures)
    return [Score(name, measure, float(formula(tp, fp, fn)), tp, fp, fn) for measure, formula in formulas if formula]


def _of_probabilities(
    name: str, probabilities: npt.NDArray[Any], truth: npt.NDArray[Any], label: int, tissue: Any
) -> Iterator[Score]:
    used = scored_pixels(truth, tissue)
    counts = ProbabilityCounts.of(probabilities[used], truth[used] == label)
    yield Score(name, "auroc", counts.auroc)
    yield Score(name, "auprc", counts.average_precision)
    yield Score(name, "ece", counts.calibration_error)


def _of_separation(name: str, annotated: Any, detected: Any, matching: Matching) -> Iterator[Score]:
    detection, segmentation = panoptic_factors(matching)
    yield Score(name, "detection_quality", detection)
    yield Score(name, "segmentation_quality", segmentation)
    counts = separation_counts(annotated[matching.truth != -2], detected[matching.predicted != -2])
    yield Score(name, "merged_objects", counts.merged)
    yield Score(name, "divided_objects", counts.divided)


def _only_points(annotated: Any, detected: Any) -> bool:
    """Whether neither side has an area: there is no overlap to speak of."""
    both = [*annotated, *detected]
    return bool(both) and all(shape.geom_type == "Point" for shape in both)


def _clipped(shapes: Any, field: Any) -> Any:
    return polygons(shapes) if field is None else shapely.intersection(polygons(shapes), shapely.box(*field))
