"""Scores of separated objects and of points, against analytic cases and a second way to compute them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from stainda.annotations import make_shapes
from stainda.annotations.labels import outlines
from stainda.evaluation import score_slide
from stainda.evaluation.detection import panoptic_factors, panoptic_quality
from stainda.objects.matching import match_objects

SIZE = 60


def values(scores):
    return {score.measure: score.value for score in scores}


def squares(*corners, side=10):
    labels = np.zeros((SIZE, SIZE), int)
    for value, (row, column) in enumerate(corners, start=1):
        labels[row : row + side, column : column + side] = value
    return labels


def score(truth, predicted, **more):
    return values(
        score_slide(
            (predicted > 0).astype(np.uint8), (truth > 0).astype(np.uint8), ("nucleus",),
            outlines(predicted, cls="nucleus"), outlines(truth, cls="nucleus"), instances=True, **more,
        )
    )  # fmt: skip


def by_label_maps(truth, predicted):
    """PQ's factors and AJI straight from label maps, as their papers write them."""
    mine, theirs = np.unique(truth[truth > 0]), np.unique(predicted[predicted > 0])
    common = np.array([[((truth == a) & (predicted == b)).sum() for b in theirs] for a in mine], float)
    union = np.array([[((truth == a) | (predicted == b)).sum() for b in theirs] for a in mine], float)
    iou = common / union
    hits = iou > 0.5
    detection = hits.sum() / (hits.sum() + 0.5 * (len(mine) - hits.sum()) + 0.5 * (len(theirs) - hits.sum()))
    best = iou.argmax(1)
    used, top, bottom = set(), 0.0, 0.0
    for index in range(len(mine)):
        if iou[index].max() == 0:
            bottom += (truth == mine[index]).sum()
            continue
        top, bottom = top + common[index, best[index]], bottom + union[index, best[index]]
        used.add(best[index])
    bottom += sum((predicted == theirs[index]).sum() for index in range(len(theirs)) if index not in used)
    return detection, iou[hits].mean(), top / bottom


@pytest.mark.parametrize("seed", range(4))
def test_quality_and_aji_are_those_of_the_label_maps(seed):
    rng = np.random.default_rng(seed)
    corners = [(r, c) for r in range(2, 48, 14) for c in range(2, 48, 14)]
    truth = squares(*corners)
    moved = [(r + rng.integers(-3, 4), c + rng.integers(-2, 4)) for r, c in corners if rng.random() < 0.8]
    predicted = squares(*[(max(r, 0), max(c, 0)) for r, c in moved])
    own = score(truth, predicted)
    detection, segmentation, aji = by_label_maps(truth, predicted)
    assert own["detection_quality"] == pytest.approx(detection)
    assert own["segmentation_quality"] == pytest.approx(segmentation)
    assert own["aji"] == pytest.approx(aji)
    assert own["panoptic_quality"] == pytest.approx(detection * segmentation)


def test_merged_objects_cost_what_they_are():
    truth = squares((10, 10), (10, 20), (40, 40))
    merged = np.where(truth == 2, 1, truth)
    own = score(truth, merged)
    assert own["dice"] == 1 and own["merged_objects"] == pytest.approx(2 / 3) and own["divided_objects"] == 0
    assert own["aji"] == pytest.approx((100 + 100 + 100) / (200 + 200 + 100))
    apart = score(truth, truth)
    assert apart["merged_objects"] == 0 and apart["aji"] == 1 and apart["detection_quality"] == 1
    halves = truth.copy()
    halves[45:50, 40:50] = 9
    assert score(truth, halves)["divided_objects"] == pytest.approx(1 / 3)


def test_the_factors_are_nan_where_nothing_is_there():
    nothing = match_objects([], [], 0.5)
    assert np.isnan(panoptic_factors(nothing)).all() and np.isnan(panoptic_quality(nothing))
    missed = match_objects([shapely.box(0, 0, 1, 1)], [], 0.5)
    assert panoptic_factors(missed)[0] == 0 and np.isnan(panoptic_factors(missed)[1])


def test_other_tasks_have_no_measures_of_separation():
    truth = squares((10, 10))
    shapes = outlines(truth, cls="nucleus")
    plain = values(
        score_slide((truth > 0).astype(np.uint8), (truth > 0).astype(np.uint8), ("nucleus",), shapes, shapes)
    )
    assert "merged_objects" not in plain and "detection_quality" not in plain and "aji" in plain


def test_points_hit_points_within_the_distance_and_have_no_overlap():
    truth = make_shapes([shapely.Point(10, 10), shapely.Point(30, 30), shapely.Point(50, 50)], "cell")
    predicted = make_shapes([shapely.Point(12, 10), shapely.Point(30, 36), shapely.Point(51, 51)], "cell")
    labels = np.zeros((SIZE, SIZE), np.uint8)
    own = values(score_slide(labels, labels, ("cell",), predicted, truth, point_px=4))
    assert own["object_recall"] == pytest.approx(2 / 3) and own["object_precision"] == pytest.approx(2 / 3)
    assert "aji" not in own and "panoptic_quality" not in own


def test_points_outside_of_the_field_and_on_ignored_regions_do_not_count():
    truth = [shapely.Point(10, 10), shapely.Point(90, 90)]
    predicted = [shapely.Point(10, 11), shapely.Point(91, 90), shapely.Point(30, 30), shapely.Point(45, 45)]
    matching = match_objects(truth, predicted, field=(0, 0, 60, 60), ignored=[shapely.box(28, 28, 32, 32)], point_px=5)
    assert matching.truth.tolist() == [0, -2] and matching.predicted.tolist() == [0, -2, -2, -1]
