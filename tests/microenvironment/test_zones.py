"""Counts, areas and distances about structures, against circles and a brute force."""

import numpy as np
import pytest
import shapely
from shapely.affinity import translate

from stainda.microenvironment.measure import displacement_bias
from stainda.microenvironment.rates import (
    density,
    poisson_interval,
    random_shifts,
    shifted_counts,
    uncertain_interval,
)
from stainda.microenvironment.zones import (
    Zones,
    areas,
    counts,
    near_pairs,
    nearest,
    nearest_outside,
    pooled_areas,
    pooled_counts,
    signed_distance,
)

ZONES = Zones.of_rings((25, 50))
FIELD = shapely.box(0, 0, 1000, 1000)


def disc(x, y, r):
    return shapely.Point(x, y).buffer(r, quad_segs=64)


def test_areas_of_a_disc_are_those_of_rings():
    found = areas(np.array([disc(500, 500, 40)]), ZONES, FIELD)
    assert found[0] == pytest.approx(np.pi * np.array([40**2, 65**2 - 40**2, 90**2 - 65**2]), rel=2e-3)


def test_window_holes_and_neighbours_are_cut_off():
    hole = FIELD.difference(shapely.box(500, 0, 1000, 1000))
    half = areas(np.array([disc(500, 500, 40)]), ZONES, hole)
    assert half[0] == pytest.approx(areas(np.array([disc(500, 500, 40)]), ZONES, FIELD)[0] / 2, rel=1e-6)
    pair = np.array([disc(400, 500, 40), disc(500, 500, 40)])  # 20 micrometres apart
    found = areas(pair, ZONES, FIELD)
    ring = pair[0].buffer(25, quad_segs=16).difference(pair[0])
    assert found[0, 1] == pytest.approx(ring.difference(pair[1]).area, rel=1e-9)
    assert pooled_areas(pair, ZONES, FIELD).sum() == pytest.approx(FIELD.area)
    assert pooled_areas(pair, ZONES, FIELD)[1] < found[:, 1].sum()


def test_counts_and_nearest_are_those_of_every_pair():
    rng = np.random.default_rng(0)
    structures = np.array(
        [disc(*xy, r) for xy, r in zip(rng.uniform(0, 1000, (30, 2)), rng.uniform(20, 60, 30), strict=True)]
    )
    structures = np.array(
        [one for k, one in enumerate(structures) if not any(one.intersects(o) for o in structures[:k])]
    )
    cells = rng.uniform(0, 1000, (3000, 2))
    every = np.array(
        [[s.exterior.distance(p) * (-1 if s.contains(p) else 1) for s in structures] for p in shapely.points(cells)]
    )
    pairs = near_pairs(structures, cells, 50)
    distance, which = nearest(pairs, len(cells))
    near = every.min(axis=1) <= 50
    assert distance[near] == pytest.approx(every.min(axis=1)[near])
    assert (which[near] == every.argmin(axis=1)[near]).all() and np.isinf(distance[~near]).all()
    home = np.where((every <= 0).any(axis=1), every.argmin(axis=1), -1)
    expected = np.array([
        [((every[:, s] > low) & (every[:, s] <= high) & ((home < 0) | (home == s))).sum()
         for low, high in ((-np.inf, 0), (0, 25), (25, 50))]
        for s in range(len(structures))
    ])  # fmt: skip
    assert (counts(pairs, ZONES, len(structures)) == expected).all()
    assert pooled_counts(distance, ZONES).sum() == len(cells)
    assert pooled_counts(distance, ZONES)[0] == (every.min(axis=1) <= 0).sum()


@pytest.mark.parametrize("reach", [0.0, 3.0, 50.0, 5000.0])
def test_the_nearest_point_outside_is_found_however_far_it_is(reach):
    rng = np.random.default_rng(1)
    structures = np.array([disc(*xy, 30) for xy in rng.uniform(0, 3000, (40, 2))] + [shapely.box(-9000, 0, -8000, 9)])
    cells = np.concatenate([rng.uniform(0, 600, (30, 2)), shapely.get_coordinates(shapely.centroid(structures))])
    every = np.array([[np.inf if s.contains(p) else s.distance(p) for p in shapely.points(cells)] for s in structures])
    away = nearest_outside(structures, cells, near_pairs(structures, cells, reach), reach)
    assert away == pytest.approx(every.min(axis=1)) and away.max() > 5000


def test_without_a_point_outside_there_is_no_nearest():
    structures = np.array([disc(0, 0, 40)])
    for cells in (np.zeros((0, 2)), np.array([[5.0, 5.0]])):
        assert np.isnan(nearest_outside(structures, cells, near_pairs(structures, cells, 10), 10)).all()
    none = np.zeros(0, object)
    assert nearest_outside(none, cells, near_pairs(none, cells, 10), 10).shape == (0,)


def test_nothing_near_gives_nothing():
    none = np.zeros(0, object)
    pairs = near_pairs(none, np.zeros((5, 2)), 50)
    assert counts(pairs, ZONES, 0).shape == (0, 3) and np.isinf(nearest(pairs, 5)[0]).all()
    assert pooled_areas(none, ZONES, FIELD).tolist() == [0, 0, 0, FIELD.area]


def test_densities_of_a_homogeneous_process_are_its_rate():
    rng = np.random.default_rng(1)
    structures = np.array([disc(x, y, 50) for x in range(100, 1000, 200) for y in range(100, 1000, 200)])
    number = rng.poisson(20000)
    cells = rng.uniform(0, 1000, (number, 2))
    found = counts(near_pairs(structures, cells, 50), ZONES, len(structures))
    rate = density(found.sum(axis=0), areas(structures, ZONES, FIELD).sum(axis=0))
    assert rate == pytest.approx([20000] * 3, rel=0.03)


def test_poisson_intervals_are_garwoods():
    low, high = poisson_interval(np.array([0.0, 3.0, 10.0]), np.full(3, 1e6))
    assert low == pytest.approx([0, 0.6187, 4.7954], abs=1e-4)
    assert high == pytest.approx([3.6889, 8.7673, 18.3904], abs=1e-4)
    assert np.isnan(poisson_interval(np.array([1.0]), np.array([0.0]))[0])


def test_shifts_have_the_error_as_median_length_and_widen_intervals():
    rng = np.random.default_rng(2)
    shifts = random_shifts(np.array([10.0, 0.0]), 20_000, rng)
    assert np.median(np.linalg.norm(shifts[:, 0], axis=1)) == pytest.approx(10, rel=0.03)
    assert not shifts[:, 1].any()
    structure = np.array([disc(500, 500, 50)])
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    cells = 500 + 55 * np.column_stack([np.cos(angle), np.sin(angle)])  # all just outside
    pairs = near_pairs(structure, cells, 150)
    moved = shifted_counts(structure, pairs, cells, ZONES, random_shifts(np.array([20.0]), 200, rng))
    still = shifted_counts(structure, pairs, cells, ZONES, np.zeros((1, 1, 2)))
    assert still[0, 0].tolist() == [0, 40, 0]
    assert moved[:, 0, 0].max() > 5 and moved[:, 0].sum(axis=1).max() <= 40
    area = areas(structure, ZONES, FIELD)
    wide = uncertain_interval(moved, area, rng)
    narrow = poisson_interval(still[0], area)
    assert wide[1][0, 0] > narrow[1][0, 0]
    assert wide[0][0, 1] < narrow[0][0, 1]


def test_a_certain_count_has_jeffreys_interval():
    low, high = uncertain_interval(np.full((400, 1), 10.0), np.array([1e6]), np.random.default_rng(0))
    assert (low[0], high[0]) == (pytest.approx(5.14, abs=0.2), pytest.approx(17.74, abs=0.4))


def test_signed_distance_is_negative_within():
    square = np.array([shapely.box(0, 0, 10, 10)])
    found = signed_distance(square, np.zeros(3, int), np.array([[5.0, 5.0], [5.0, 12.0], [13.0, 14.0]]))
    assert found.tolist() == [-5, 2, 5]


def test_the_bias_of_displacements_is_seen_and_partly_taken_away():
    """Few cells within discs, many just outside: displaced discs hold too many."""
    rng = np.random.default_rng(7)
    zones = Zones.of_rings((25, 50))
    law = np.array([50.0, 1000.0, 500.0])
    places = np.stack(np.meshgrid(np.arange(200, 3000, 300), np.arange(200, 3000, 300)), -1).reshape(-1, 2)
    true = np.array([disc(*xy, 60) for xy in places])
    ratio, corrected = [], []
    for _ in range(3):
        points = rng.uniform(0, 3200, (rng.poisson(3200**2 * law.max() / 1e6), 2))
        near = near_pairs(true, points, 50)
        rate = np.full(len(points), 100.0)
        rate[near.point] = law[zones.index(near.distance)]
        cells = points[rng.random(len(points)) < rate / law.max()]
        moved = np.array([translate(shape, *by) for shape, by in zip(
            true, random_shifts(np.full(100, 8.0), 1, rng)[0], strict=True)])  # fmt: skip
        pairs = near_pairs(moved, cells, 50 + 30)
        observed = counts(pairs, zones, 100)
        again = shifted_counts(moved, pairs, cells, zones, random_shifts(np.full(100, 8.0), 20, rng))
        rates = density(observed.sum(axis=0), areas(moved, zones, shapely.box(0, 0, 3200, 3200)).sum(axis=0))
        bias = displacement_bias(observed, again)
        ratio.append(rates / law)
        corrected.append(rates * (1 - bias) / law)
    ratio, corrected = np.mean(ratio, axis=0), np.mean(corrected, axis=0)
    assert ratio[0] > 1.5 and ratio[1] < 0.9
    assert abs(corrected[0] - 1) < 0.75 * abs(ratio[0] - 1) and abs(corrected[1] - 1) < 0.75 * abs(ratio[1] - 1)
    assert corrected[0] > 1, "it is careful"


def test_without_cells_or_displacements_there_is_no_bias():
    one = np.array([[4.0, 0.0]])
    assert displacement_bias(one, one[None])[0] == 0 and np.isnan(displacement_bias(one, one[None])[1])
