"""Window, K, L, g and the tests by simulation, against analytic windows and every pair."""

import numpy as np
import pytest
import shapely
from shapely.affinity import translate

from stainda.microenvironment.envelopes import DistanceField, envelope, rank_p
from stainda.microenvironment.patterns import pair_functions
from stainda.microenvironment.window import CountingWindow
from stainda.microenvironment.zones import Zones

L_SHAPE = shapely.Polygon([(0, 0), (600, 0), (600, 200), (250, 200), (250, 500), (0, 500)]).difference(
    shapely.Point(120, 120).buffer(50)
)


def test_the_set_covariance_of_a_rectangle_is_known():
    window = CountingWindow(shapely.box(10, 20, 410, 320), step=2.0)
    shifts = np.array([[0, 0], [100, 0], [-40, 60], [399, 299], [500, 0]], float)
    exact = np.maximum(400 - np.abs(shifts[:, 0]), 0) * np.maximum(300 - np.abs(shifts[:, 1]), 0)
    assert window.covariance(shifts) == pytest.approx(exact, abs=2e-3 * window.area)


def test_the_set_covariance_of_a_polygon_with_a_hole_is_that_of_shapely():
    window = CountingWindow(L_SHAPE, step=2.0)
    shifts = np.random.default_rng(0).uniform(-150, 150, (40, 2))
    exact = [L_SHAPE.intersection(translate(L_SHAPE, *shift)).area for shift in shifts]
    assert window.covariance(shifts) == pytest.approx(exact, rel=0.02)


def brute_k(one, two, shape, r):
    """K by every pair, each with the exact area that the window shares with itself shifted."""
    total = np.zeros(len(r))
    for i, a in enumerate(one):
        for j, b in enumerate(two):
            if (one is two and i == j) or (away := np.linalg.norm(b - a)) > r[-1]:
                continue
            total[away <= r] += 1 / shape.intersection(translate(shape, *(b - a))).area
    n = len(one) * (len(one) - 1) if one is two else len(one) * len(two)
    return shape.area**2 / n * total


def points_in(shape, n, rng):
    x0, y0, x1, y1 = shape.bounds
    xy = rng.uniform((x0, y0), (x1, y1), (20 * n, 2))
    return xy[shapely.contains_xy(shape, xy[:, 0], xy[:, 1])][:n]


@pytest.mark.parametrize("same", [True, False])
def test_k_is_that_of_every_pair(same):
    rng = np.random.default_rng(1)
    one, two = points_in(L_SHAPE, 40, rng), points_in(L_SHAPE, 50, rng)
    r = np.array([30.0, 60.0, 120.0])
    found = pair_functions(one, None if same else two, CountingWindow(L_SHAPE, step=2.0), r)
    assert found.k == pytest.approx(brute_k(one, one if same else two, L_SHAPE, r), rel=0.02)
    assert np.array([found.l]) ** 2 * np.pi == pytest.approx(np.array([found.k]))


def test_under_randomness_k_is_the_disc_and_g_is_one():
    rng = np.random.default_rng(2)
    window, r = CountingWindow(L_SHAPE, step=2.0), np.arange(10.0, 101, 10)
    many = [pair_functions(points_in(L_SHAPE, 400, rng), None, window, r) for _ in range(20)]
    assert np.mean([one.k for one in many], axis=0) == pytest.approx(np.pi * r**2, rel=0.06)
    assert np.mean([one.g for one in many], axis=0) == pytest.approx(np.ones(10), abs=0.08)


def test_clusters_lie_above_one_and_are_gone_beyond_their_size():
    rng = np.random.default_rng(3)
    parents = rng.uniform(0, 2000, (150, 2))
    cells = np.repeat(parents, 10, axis=0) + rng.normal(0, 8, (1500, 2))
    field = shapely.box(0, 0, 2000, 2000)
    cells = cells[shapely.contains_xy(field, cells[:, 0], cells[:, 1])]
    g = pair_functions(cells, None, CountingWindow(field), np.array([8.0, 16.0, 100.0]), bandwidth=3.0).g
    # Thomas process: 1 + exp(-r^2 / 4 sigma^2) / (4 pi kappa sigma^2)
    exact = 1 + np.exp(-(np.array([8.0, 16.0, 100.0]) ** 2) / 256) / (4 * np.pi * 150 / 4e6 * 64)
    assert g == pytest.approx(exact, rel=0.2)


def test_too_few_points_have_no_function():
    assert np.isnan(pair_functions(np.zeros((1, 2)), None, CountingWindow(L_SHAPE), np.array([10.0])).k).all()


def test_extreme_rank_length_orders_curves():
    flat = np.zeros((99, 3)) + np.arange(99)[:, None] * 1e-3
    assert rank_p(np.vstack([[[9, 9, 9]], flat])) == 0.02  # the lowest is as extreme
    assert rank_p(np.vstack([[[0.05, 0.05, 0.05]], flat])) > 0.9
    assert envelope(np.array([9.0, np.nan]), np.column_stack([flat[:, 0], flat[:, 0]])).p == 0.02


def discs(seed=0):
    rng = np.random.default_rng(seed)
    return np.array([shapely.Point(*xy).buffer(40) for xy in rng.uniform(100, 900, (12, 2))])


FIELD = shapely.box(0, 0, 1000, 1000).difference(shapely.box(700, 700, 1000, 1000))
ZONES = Zones.of_rings((25, 50))


def test_raster_zones_have_the_areas_of_the_polygons():
    from stainda.microenvironment.zones import pooled_areas

    field = DistanceField.of(discs(), ZONES, CountingWindow(FIELD, step=2.0))
    assert field.tally(field.zone) * 4 == pytest.approx(
        pooled_areas(discs(), ZONES, FIELD), rel=0.04
    )  # half a micrometre


@pytest.mark.parametrize("angle", [0, 33])
def test_cells_at_the_structures_are_found_and_turning_changes_nothing(angle):
    from shapely.affinity import rotate

    rng = np.random.default_rng(4)
    structures = np.array([rotate(one, angle, origin=(0, 0)) for one in discs()])
    window = CountingWindow(rotate(FIELD, angle, origin=(0, 0)))
    near = np.concatenate([np.array(one.centroid.coords) + rng.normal(0, 30, (20, 2)) for one in structures])
    near = near[window.contains(near)]
    field = DistanceField.of(structures, ZONES, window)
    cells, areas = field.observed(near)
    assert field.relative(cells, areas)[0] > 5
    shifted = field.relative(*field.shifted(near, 99, rng))
    assert np.nanmean(shifted[:, 0]) == pytest.approx(1, abs=0.4)
    assert envelope(field.relative(cells, areas), shifted).p <= 0.02


@pytest.mark.parametrize("null", ["shift", "random", "relabel"])
def test_false_alarms_are_as_many_as_the_level_says(null):
    rng = np.random.default_rng(5)
    field = DistanceField.of(discs(), ZONES, CountingWindow(FIELD, step=8.0))
    alarms = 0
    for _ in range(200):
        cells = points_in(FIELD, 150, rng)
        observed, areas = field.observed(cells[:60] if null == "relabel" else cells)
        if null == "shift":
            simulated = field.relative(*field.shifted(cells, 39, rng))
        elif null == "random":
            simulated = field.relative(*field.scattered(len(cells), 39, rng))
        else:
            simulated = field.relative(field.relabelled(cells, 60, 39, rng), areas)
        alarms += envelope(field.relative(observed, areas), simulated).p <= 0.05
    assert 2 <= alarms <= 20  # 5 % of 200, four standard deviations
