"""What is counted by short cuts is what the plain way counts, to the last cell."""

import numpy as np
import pytest
import shapely
from shapely.affinity import rotate, translate

from stainda.microenvironment.rates import random_shifts, shifted_counts
from stainda.microenvironment.toroidal_shifts import Torus
from stainda.microenvironment.window import CountingWindow, filled
from stainda.microenvironment.zones import ObjectPairs, Zones, counts, near_pairs, signed_distance, within_other

TISSUE = shapely.union_all([
    shapely.box(0, 0, 400, 150).difference(shapely.Point(120, 70).buffer(30)), shapely.box(250, 200, 300, 330),
])  # fmt: skip


@pytest.mark.parametrize("empty", [0.1, 0.7])
def test_shifted_cells_and_areas_are_those_of_a_rolled_raster(empty):
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 5, (31, 44))
    pattern[rng.random(pattern.shape) < empty] = -1
    rows, columns = rng.integers(0, 31, 300), rng.integers(0, 44, 300)
    torus = Torus(pattern, 5, 0.05)
    cells, squares = torus.counted(rows, columns, 30, np.random.default_rng(1))
    shifts = list(torus.shifts(30, np.random.default_rng(1)))
    assert len(cells) == len(shifts) == 30
    window = pattern >= 0
    mine = window[rows, columns]
    for k, (down, right) in enumerate(shifts):
        common = window & np.roll(window, (down, right), axis=(0, 1))
        assert common.sum() == torus.common[down, right] >= 0.05 * window.sum()
        seen = np.where(common, pattern, -1)
        there = seen[(rows[mine] + down) % 31, (columns[mine] + right) % 44]
        assert cells[k].tolist() == [(there == value).sum() for value in range(5)]
        assert squares[k].tolist() == [(seen == value).sum() for value in range(5)]


def test_shifts_that_leave_too_little_are_not_used():
    pattern = np.full((40, 40), -1)
    pattern[:20] = 0  # a shift down by half leaves nothing
    downs = [down for down, _ in Torus(pattern, 1, 0.5).shifts(50, np.random.default_rng(0))]
    assert len(downs) == 50 and all(down <= 10 or down >= 30 for down in downs)


@pytest.mark.parametrize("angle", [0, 90, 23])
def test_a_polygon_is_filled_as_shapely_says(angle):
    shape = rotate(TISSUE, angle, origin=(0, 0))
    window = CountingWindow(shape, step=3.0)
    x, y = (window.origin[k] + (np.arange(window.mask.shape[1 - k]) + 0.5) * 3.0 for k in (0, 1))
    gx, gy = np.meshgrid(x, y)
    assert (window.mask == shapely.contains_xy(shape, gx, gy)).all() and 0.3 < window.mask.mean() < 0.9


def test_a_raster_smaller_than_its_polygon_is_filled_too():
    raster = filled(shapely.box(-50, -50, 500, 500).difference(shapely.box(3, 0, 5, 100)), (0.0, 0.0), 1.0, (4, 8))
    assert raster.tolist() == [[True] * 3 + [False] * 2 + [True] * 3] * 4


def test_displaced_cells_are_counted_as_if_every_distance_were_taken_again():
    rng = np.random.default_rng(3)
    zones = Zones.of_rings((10, 30, 60))
    structures = np.array([shapely.Point(*xy).buffer(r) for xy, r in (((200, 200), 60), ((345, 200), 70),
                                                                     ((250, 420), 50))])  # fmt: skip
    cells = rng.uniform(0, 600, (1500, 2))
    error = np.array([4.0, 25.0, 0.0])
    shifts = random_shifts(error, 12, rng)
    pairs = near_pairs(structures, cells, 60 + 80)
    fast = shifted_counts(structures, pairs, cells, zones, shifts)
    assert fast[:, 2].std(axis=0).max() == 0 < fast[:, 0].std(axis=0).min()
    for draw, shift in enumerate(shifts):
        moved = np.array([translate(shape, *-by) for shape, by in zip(structures, shift, strict=True)])
        distance = signed_distance(moved, pairs.structure, cells[pairs.point])
        plain = counts(ObjectPairs(pairs.structure, pairs.point, distance), zones, 3)
        assert fast[draw].tolist() == plain.tolist()


def test_a_cell_in_two_structures_belongs_to_the_first_and_in_no_ring():
    pairs = ObjectPairs(np.array([0, 1, 2, 1]), np.array([7, 7, 7, 9]), np.array([-3.0, -1.0, 12.0, 4.0]))
    assert within_other(pairs).tolist() == [False, True, True, False]
    assert not within_other(ObjectPairs(pairs.structure, pairs.point, np.abs(pairs.distance))).any()
