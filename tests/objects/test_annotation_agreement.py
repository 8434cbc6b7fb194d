"""Propagated shapes against a target's own: one to one, by overlap or by distance."""

import time

import numpy as np
import pytest
from shapely import Point, Polygon, box

from stainda.annotations import make_shapes
from stainda.objects.annotation_agreement import compare


def table(geometries, names):
    return make_shapes(np.array(geometries, object), "g", id=list(names), source_slide="s", confidence=0.5)


def matched(rows):
    return {row["id"]: row.get("own_id") for row in rows if row["found"] == "both"}


def test_areas_are_matched_by_the_largest_sum_of_dice_and_not_by_the_first_that_meets():
    own = table([box(0, 0, 10, 10), box(6, 0, 16, 10)], "ab")
    rows = compare("t", table([box(3, 0, 13, 10), box(0, 0, 7, 10), box(90, 0, 99, 9)], "xyz"), own)
    assert matched(rows) == {"x": "b", "y": "a"}
    assert [row["dice"] for row in rows] == [0.7, round(2 * 70 / 170, 4), 0.0]
    assert rows[2]["found"] == "propagated only"


def test_of_equal_overlaps_the_nearer_centre_is_taken():
    around = table([box(0, 0, 100, 100)], "x")
    own = table([box(0, 0, 10, 10), box(40, 40, 50, 50)], "ab")
    assert matched(compare("t", around, own)) == {"x": "b"}


def test_areas_that_only_touch_and_broken_outlines():
    bow = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    assert matched(compare("t", table([box(0, 0, 10, 10)], "x"), table([box(10, 0, 20, 10)], "a"))) == {}
    rows = compare("t", table([box(0, 0, 10, 10)], "x"), table([bow], "a"))
    assert matched(rows) == {"x": "a"} and rows[0]["dice"] == pytest.approx(0.6667)


def test_points_far_apart_are_not_one():
    assert matched(compare("t", table([Point(0, 0)], "x"), table([Point(1e5, 1e5)], "a"))) == {}
    assert matched(compare("t", table([Point(0, 0)], "x"), table([Point(20, 20)], "a"))) == {"x": "a"}
    first, own = [Point(0, 0), Point(100, 0)], [Point(3, 0), Point(900, 0)]
    rows = compare("t", table(first, "xy"), table(own, "ab"))
    assert matched(rows) == {"x": "a"} and rows[0]["centroid_distance_px"] == 3
    assert [row["found"] for row in rows] == ["both", "propagated only", "own only"]


def test_thousands_of_points_are_matched_in_seconds():
    """On a grid of 10 pixels, each moved by less than 2: every point finds its own."""
    grid = np.stack(np.meshgrid(np.arange(100), np.arange(80)), -1).reshape(-1, 2) * 10.0
    moved = grid + np.random.default_rng(0).uniform(-1.4, 1.4, grid.shape)
    names = [str(k) for k in range(len(grid))]
    begun = time.process_time()
    rows = compare("t", table([Point(xy) for xy in moved], names), table([Point(xy) for xy in grid], names))
    assert matched(rows) == dict(zip(names, names, strict=True))
    assert time.process_time() - begun < 30


def test_points_are_matched_as_many_as_can_be_by_the_smallest_sum_of_distances():
    first, own = [Point(0, 0), Point(10, 0)], [Point(11, 0), Point(25, 0), Point(500, 0)]
    rows = compare("t", table(first, "xy"), table(own, "abc"))
    assert matched(rows) == {"x": "a", "y": "b"}, "11 + 15 is less than 25 + 1 by crossing, and each finds one"
    assert [row["dice"] for row in rows] == [None, None, None]
    assert rows[-1]["found"] == "own only"
    assert compare("t", table([], ""), table(own, "abc"))[0]["found"] == "own only"
