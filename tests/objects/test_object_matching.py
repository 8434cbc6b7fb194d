"""Object matching by hand, also at the edges."""

from __future__ import annotations

import itertools

import geopandas as gpd
import numpy as np
import pytest
from shapely import box
from shapely.geometry import Point, Polygon

from stainda.evaluation import match_labels, match_objects, score_slide


def squares(*corners, size=10):
    return [box(x, y, x + size, y + size) for x, y in corners]


def shapes(geometries, cls="glomerulus"):
    return gpd.GeoDataFrame({"geometry": list(geometries), "class": [cls] * len(geometries)})


def test_hits_false_and_missed_by_hand():
    matching = match_objects(squares((0, 0), (50, 0), (100, 0)), squares((2, 0), (53, 0), (200, 0), (300, 0)))
    # shifted by 2 of 10: IoU 8/12; shifted by 3: 7/13
    assert (matching.hits, matching.false, matching.missed) == (2, 2, 1)
    np.testing.assert_allclose(matching.iou, [8 / 12, 7 / 13, np.nan])
    assert match_objects(squares((0, 0)), squares((2, 0)), iou=8 / 12).hits == 1, "the threshold itself is a match"
    assert match_objects(squares((0, 0)), squares((2, 0)), iou=0.67).hits == 0


def test_two_detections_of_one_object_are_one_hit_and_one_false():
    matching = match_objects(squares((0, 0)), squares((1, 0), (0, 1)))
    assert (matching.hits, matching.false, matching.missed) == (1, 1, 0)


def test_the_matching_with_most_pairs_is_taken_where_greedy_would_lose_one():
    truth = [box(0, 0, 10, 10), box(6, 0, 16, 10)]
    found = [box(3, 0, 13, 10), box(0, 0, 7, 10)]
    # found[0] overlaps both equally; greedy by row could give it to truth[0], leaving truth[1] alone
    matching = match_objects(truth, found, iou=0.3)
    assert matching.truth.tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_label_maps_and_polygons_of_the_same_squares_agree(seed):
    rng = np.random.default_rng(seed)
    truth_map, found_map = np.zeros((120, 120), int), np.zeros((120, 120), int)
    truth, found = [], []
    for index, (row, column) in enumerate(itertools.product(range(4), range(4))):
        y, x = 5 + 28 * row, 5 + 28 * column
        if rng.random() < 0.8:
            truth.append(box(x, y, x + 15, y + 15))
            truth_map[y : y + 15, x : x + 15] = 10 + index
        if rng.random() < 0.8:
            dx, dy = rng.integers(-6, 7, 2)
            y, x = max(y + dy, 0), max(x + dx, 0)
            found.append(box(x, y, x + 15, y + 15))
            found_map[y : y + 15, x : x + 15] = 40 + index
    by_shape, by_label = match_objects(truth, found), match_labels(truth_map, found_map)
    assert (by_shape.hits, by_shape.false, by_shape.missed) == (by_label.hits, by_label.false, by_label.missed)
    np.testing.assert_allclose(np.sort(by_shape.iou), np.sort(by_label.iou))


def test_indices_of_a_label_map_count_labels_not_background():
    truth, found = np.zeros((4, 8), int), np.full((4, 8), 7)
    truth[:, :4], found[:, 4:] = 3, 9
    matching = match_labels(truth, found)
    assert matching.truth.tolist() == [0] and matching.predicted.tolist() == [0, -1]


def test_ignored_regions_are_scored_neither_for_nor_against():
    truth, found = squares((0, 0), (100, 0)), squares((0, 0), (101, 0), (120, 0), (300, 0))
    matching = match_objects(truth, found, ignored=[box(90, -10, 140, 20)])
    assert matching.truth.tolist() == [0, -2]
    assert matching.predicted.tolist() == [0, -2, -2, -1]
    ignored = np.zeros((20, 200), bool)
    ignored[:, 90:140] = True
    truth_map, found_map = np.zeros((20, 200), int), np.zeros((20, 200), int)
    truth_map[:10, 0:10], truth_map[:10, 100:110] = 1, 2
    found_map[:10, 0:10], found_map[:10, 101:111], found_map[:10, 120:130], found_map[:10, 180:190] = 1, 2, 3, 4
    matching = match_labels(truth_map, found_map, ignored=ignored)
    assert matching.truth.tolist() == [0, -2] and matching.predicted.tolist() == [0, -2, -2, -1]


def test_objects_cut_by_the_border_of_the_field():
    field = (0, 0, 100, 100)
    truth = squares((-3, 40), (-7, 70), (50, 50))
    found = [box(0, 40, 7, 50), box(0, 70, 3, 80), box(-20, 0, -10, 10)]
    matching = match_objects(truth, found, field=field)
    assert matching.truth.tolist() == [0, -2, -1], "0.7 inside is scored on its inside; 0.3 inside is left out"
    assert matching.predicted.tolist() == [0, -2, -2], "a detection on a left-out object, or outside, is not false"


def test_nothing_there_and_nothing_found():
    assert match_objects([], []).hits == 0
    assert match_objects([], squares((0, 0))).false == 1
    assert match_objects(squares((0, 0)), []).missed == 1
    assert match_labels(np.zeros((3, 3), int), np.zeros((3, 3), int)).truth.tolist() == []


def test_touching_objects_do_not_overlap_and_bow_ties_are_repaired():
    assert match_objects(squares((0, 0), (10, 0)), squares((0, 0), (10, 0))).hits == 2
    bow = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    assert match_objects([bow], [bow]).hits == 1
    assert match_objects([Point(1, 1)], [Point(1, 1)]).truth.tolist() == [-2], "points have no area to match"


def test_score_slide_keeps_counts_of_pixels_and_objects_of_every_class():
    truth = np.zeros((20, 40), np.uint8)
    truth[5:15, 5:15] = 1
    predicted = np.zeros((2, 20, 40), np.float32)
    predicted[0, 5:15, 7:17] = 0.8
    scores = score_slide(
        predicted, truth, ("glomerulus", "artery"), shapes(squares((7, 5))), shapes(squares((5, 5))), iou=0.5
    )
    found = {(score.cls, score.measure): score for score in scores}
    assert len(found) == 2 * (4 + 3 + 3 + 2), "pixels, probabilities, objects, panoptic quality and AJI"
    assert found["glomerulus", "dice"].value == pytest.approx(0.8)
    assert (found["glomerulus", "dice"].tp, found["glomerulus", "dice"].fp) == (80, 20)
    assert found["glomerulus", "object_f1"].value == 1 and found["glomerulus", "object_f1"].tp == 1
    assert np.isnan(found["artery", "dice"].value) and np.isnan(found["artery", "object_f1"].value)
    counted = {"dice", "iou", "precision", "recall"}
    assert {one.measure for one in score_slide(predicted.argmax(0), truth, ("a", "b"))} == counted
    ranked = score_slide(predicted, truth, ("glomerulus", "artery"), shapes(squares((7, 5))).assign(score=0.8),
                         shapes(squares((5, 5))), um_per_px=2.0)  # fmt: skip
    values = {one.measure: one.value for one in ranked if one.cls == "glomerulus"}
    assert "ap50" not in values, "a ranking is of a data set, not of a slide"
    assert values["panoptic_quality"] == pytest.approx(2 / 3)
    assert values["hausdorff_95"] == 4.0, "two pixels of 2 µm"
