"""Overlap of outlines: one rule for every room, also for broken, empty and flat geometries."""

import numpy as np
import pytest
from shapely import GeometryCollection, LineString, Point, Polygon, box

from stainda.objects.overlap import dice, dice_pairs, iou_pairs, polygons

SQUARE = box(0, 0, 10, 10)
BOW = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])  # crosses itself: two triangles of 25, at the left and the right


def test_overlaps_of_discs_agree_with_the_lens_formula():
    d = np.array([0.0, 10, 40, 90])
    first, second = [Point(0, 0).buffer(50, quad_segs=128)], [Point(x, 0).buffer(50, quad_segs=128) for x in d]
    lens = 2 / np.pi * (np.arccos(d / 100) - d / 100 * np.sqrt(1 - (d / 100) ** 2))
    for pairs, expected in ((iou_pairs, lens / (2 - lens)), (dice_pairs, lens)):
        i, j, found = pairs(first, second)
        assert i.tolist() == [0] * 4
        np.testing.assert_allclose(found[np.argsort(j)], expected, atol=1e-3)


def test_only_pairs_that_share_area_are_returned_in_the_order_of_the_first():
    first = [box(100, 0, 110, 10), SQUARE, box(10, 0, 20, 10), Polygon(), Point(5, 5), LineString([(0, 0), (9, 9)])]
    for pairs in (iou_pairs, dice_pairs):
        i, j, found = pairs(first, [SQUARE, box(5, 0, 15, 10)])
        assert list(zip(i.tolist(), j.tolist(), strict=True)) in ([(1, 0), (1, 1), (2, 1)], [(1, 1), (1, 0), (2, 1)])
        assert (found > 0).all()
        assert [len(pair) for pair in pairs([], [SQUARE])] == [len(pair) for pair in pairs([SQUARE], [])] == [0, 0, 0]


def test_a_broken_outline_counts_with_the_area_it_encloses():
    assert dice(BOW, SQUARE) == pytest.approx(2 * 50 / 150)
    assert dice(SQUARE, BOW) == pytest.approx(2 * 50 / 150)
    assert dice(BOW, BOW) == 1
    assert iou_pairs([BOW], [SQUARE])[2] == pytest.approx([0.5])


def test_what_has_no_area_overlaps_nothing_and_two_of_them_have_no_dice():
    assert dice(SQUARE, box(20, 0, 30, 10)) == 0
    for flat in (Point(5, 5), LineString([(0, 0), (9, 9)]), Polygon(), GeometryCollection()):
        assert dice(SQUARE, flat) == dice(flat, SQUARE) == 0
        assert np.isnan(dice(flat, flat))
    assert np.isnan(dice(Point(0, 0), Point(1, 1)))


def test_holes_and_several_parts_count():
    ring = SQUARE.difference(box(2, 2, 8, 8))
    assert dice(SQUARE, ring) == pytest.approx(2 * 64 / 164)
    two = SQUARE.union(box(20, 0, 30, 10))
    assert dice(two, SQUARE) == pytest.approx(2 * 100 / 300)


def test_missing_geometries_become_empty_and_broken_ones_valid():
    found = polygons([None, BOW, SQUARE])
    assert found[0].is_empty and found[1].is_valid and found[1].area == pytest.approx(50) and found[2] is SQUARE
