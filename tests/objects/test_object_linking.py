"""Which outlines of different sections are one object."""

from __future__ import annotations

import itertools

import numpy as np
import shapely

from stainda.annotations import make_shapes
from stainda.objects.linking import link, match
from stainda.objects.overlap import dice_pairs


def discs(*places: tuple[float, float, float]) -> np.ndarray:
    return np.array([shapely.Point(x, y).buffer(r) for x, y, r in places], dtype=object)


def test_the_best_assignment_is_found_and_not_the_greedy_one() -> None:
    """Against all assignments by brute force, of random discs that overlap in chains."""
    generator = np.random.default_rng(3)
    for _ in range(20):
        first = discs(*[(x, 0, 30) for x in generator.uniform(0, 150, 5)])
        second = discs(*[(x, 0, 30) for x in generator.uniform(0, 150, 5)])
        table = np.zeros((5, 5))
        i, j, dice = dice_pairs(first, second)
        table[i, j] = np.where(dice >= 0.1, dice, 0)
        best = max(sum(table[k, p[k]] for k in range(5)) for p in itertools.permutations(range(5)))
        pairs = match(first, second)
        assert len(set(pairs.values())) == len(pairs)
        assert np.isclose(sum(table[a, b] for a, b in pairs.items()), best)


def test_thousands_of_objects_are_matched_one_to_one() -> None:
    x, y = np.meshgrid(np.arange(50) * 100.0, np.arange(40) * 100.0)
    first = discs(*[(a, b, 40) for a, b in zip(x.ravel(), y.ravel(), strict=True)])
    order = np.random.default_rng(0).permutation(len(first))
    second = shapely.transform(first[order], lambda xy: xy + 12)
    pairs = match(first, second)
    assert pairs == {int(old): new for new, old in enumerate(order)}


def test_identity_goes_through_a_section_that_lacks_the_object_and_never_crosses_classes() -> None:
    one = make_shapes(discs((0, 0, 50), (300, 0, 50)), "g")
    two = make_shapes(discs((305, 0, 40)), "g")
    three = make_shapes(discs((10, 5, 30), (310, 0, 30), (0, 0, 30), (900, 0, 30)), ["g", "g", "vessel", "g"])
    numbers = link([one, two, three])
    assert numbers[1][0] == numbers[0][1] == numbers[2][1]
    assert numbers[2][0] == numbers[0][0]
    assert len({*numbers[0], numbers[2][2], numbers[2][3]}) == 4


def test_a_crossed_outline_is_an_area_and_no_point() -> None:
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])  # its two halves cancel in the plain area
    assert match(np.array([bow], dtype=object), np.array([shapely.box(0, 0, 10, 10)], dtype=object)) == {0: 0}


def test_points_are_linked_where_neighbours_cannot_be_confused() -> None:
    first = np.array([shapely.Point(x, 0) for x in (0, 100, 200)], dtype=object)
    second = np.array([shapely.Point(x, 10) for x in (103, 3, 270)], dtype=object)
    assert match(first, second) == {0: 1, 1: 0}
