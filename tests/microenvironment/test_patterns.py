"""Window, K, L, g and the tests by simulation, against analytic windows and every pair."""

import numpy as np
import pytest
import shapely
from shapely.affinity import translate

from stainda.microenvironment.envelopes import envelope, rank_p
from stainda.microenvironment.patterns import (
    CellPairs,
    k_function,
    l_function,
    random_pairs,
    relabelled_pairs,
    ring_areas,
    scattered,
)
from stainda.microenvironment.raster_fields import RasterField
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


def brute_k(points, shape, r):
    """K by every pair, each with the exact area that the window shares with itself shifted."""
    total = np.zeros(len(r))
    for i, a in enumerate(points):
        for j, b in enumerate(points):
            if i == j or (away := np.linalg.norm(b - a)) > r[-1]:
                continue
            total[away <= r] += 1 / shape.intersection(translate(shape, *(b - a))).area
    return shape.area**2 / (len(points) * (len(points) - 1)) * total


def points_in(shape, n, rng):
    x0, y0, x1, y1 = shape.bounds
    xy = rng.uniform((x0, y0), (x1, y1), (20 * n, 2))
    return xy[shapely.contains_xy(shape, xy[:, 0], xy[:, 1])][:n]


def test_k_is_that_of_every_pair():
    points = points_in(L_SHAPE, 60, np.random.default_rng(1))
    r = np.array([30.0, 60.0, 120.0])
    g = CellPairs.of(points, CountingWindow(L_SHAPE, step=2.0), r).counts().ratio
    assert k_function(g, r) == pytest.approx(brute_k(points, L_SHAPE, r), rel=0.02)
    assert (l_function(g, r) + r) ** 2 * np.pi == pytest.approx(k_function(g, r))


def test_under_randomness_k_is_the_disc_and_g_is_one():
    rng = np.random.default_rng(2)
    window, r = CountingWindow(L_SHAPE, step=2.0), np.arange(10.0, 101, 10)
    many = random_pairs(400, window, r, 20, rng)
    g = many.found.sum(axis=0) / many.expected.sum(axis=0)
    assert g == pytest.approx(np.ones(10), abs=0.08)
    assert k_function(g, r) == pytest.approx(np.pi * r**2, rel=0.06)
    points = scattered(4000, window, 1, rng)[0]
    assert window.contains(points).mean() > 0.98
    left = shapely.box(0, 0, 250, 500)
    share = L_SHAPE.intersection(left).area / L_SHAPE.area
    assert (points[:, 0] < 250).mean() == pytest.approx(share, abs=0.03)


def test_clusters_lie_above_one_and_are_gone_beyond_their_size():
    rng = np.random.default_rng(3)
    parents = rng.uniform(0, 2000, (150, 2))
    cells = np.repeat(parents, 10, axis=0) + rng.normal(0, 8, (1500, 2))
    field = shapely.box(0, 0, 2000, 2000)
    cells = cells[shapely.contains_xy(field, cells[:, 0], cells[:, 1])]
    r = np.array([8.0, 16.0, 80.0, 100.0])
    g = CellPairs.of(cells, CountingWindow(field), r).counts().ratio
    # Thomas process: K(r) = pi r^2 + (1 - exp(-r^2 / 4 sigma^2)) / kappa
    k = np.pi * r**2 + (1 - np.exp(-(r**2) / 256)) * 4e6 / 150
    assert g == pytest.approx(np.diff(k, prepend=0) / ring_areas(r), rel=0.2)


def test_too_few_points_have_no_function():
    counts = CellPairs.of(np.zeros((1, 2)), CountingWindow(L_SHAPE), np.array([10.0])).counts()
    assert np.isnan(counts.ratio).all()


def test_relabelling_draws_among_all_cells():
    rng = np.random.default_rng(6)
    window, r = CountingWindow(L_SHAPE, step=2.0), np.array([20.0, 60.0])
    clusters = np.repeat(points_in(L_SHAPE, 40, rng), 5, axis=0) + rng.normal(0, 5, (200, 2))
    cells = clusters[window.contains(clusters)]
    pairs = CellPairs.of(cells, window, r)
    drawn = relabelled_pairs(pairs, 60, 60, rng)
    # a random share of a pattern has the g of the pattern
    assert drawn.found.sum(axis=0) / drawn.expected.sum(axis=0) == pytest.approx(pairs.counts().ratio, rel=0.1)
    chosen = np.arange(pairs.number) < 60
    other = CellPairs.of(cells[:60], window, r).counts()
    assert pairs.counts(chosen).found == pytest.approx(other.found)
    assert pairs.counts(chosen).expected == pytest.approx(other.expected)


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

    field = RasterField.of_zones(discs(), ZONES, CountingWindow(FIELD, step=2.0))
    points = np.random.default_rng(0).uniform(0, 1000, (300, 2))
    points = points[shapely.contains_xy(FIELD, points[:, 0], points[:, 1])]
    share = field.observed(points).expected / len(points)
    assert share * FIELD.area == pytest.approx(pooled_areas(discs(), ZONES, FIELD), rel=0.04)  # half a micrometre


def test_rings_about_centres_are_those_of_every_pair():
    rng = np.random.default_rng(8)
    centres, cells = points_in(FIELD, 9, rng), points_in(FIELD, 400, rng)
    r = np.array([40.0, 90.0, 180.0])
    field = RasterField.about_centres(centres, r, CountingWindow(FIELD, step=1.0))
    counts = field.observed(cells)
    away = np.linalg.norm(centres[:, None] - cells[None], axis=2)
    found = [((away > a) & (away <= b)).sum() for a, b in zip((0.0, 40.0, 90.0), r, strict=True)]
    assert counts.found == pytest.approx(found, abs=5)  # cells at the edge of a square of the raster
    whole = np.array(
        [sum(FIELD.intersection(shapely.Point(c).buffer(b, quad_segs=64)).area for c in centres) for b in r]
    )
    assert counts.expected == pytest.approx(np.diff(whole, prepend=0) * len(cells) / FIELD.area, rel=0.02)


@pytest.mark.parametrize("angle", [0, 33])
def test_cells_at_the_structures_are_found_and_turning_changes_nothing(angle):
    from shapely.affinity import rotate

    rng = np.random.default_rng(4)
    structures = np.array([rotate(one, angle, origin=(0, 0)) for one in discs()])
    window = CountingWindow(rotate(FIELD, angle, origin=(0, 0)))
    near = np.concatenate([np.array(one.centroid.coords) + rng.normal(0, 30, (20, 2)) for one in structures])
    near = near[window.contains(near)]
    centres = shapely.get_coordinates(shapely.centroid(structures))
    fields = RasterField.of_zones(structures, ZONES, window), RasterField.about_centres(centres, R, window)
    for field in fields:
        observed, shifted = field.observed(near), field.simulated("shift", near, 99, rng)
        assert observed.ratio[0] > 5
        assert shifted.found.sum(axis=0)[0] / shifted.expected.sum(axis=0)[0] == pytest.approx(1, abs=0.4)
        assert envelope(observed.ratio, shifted.ratio).p <= 0.05


R = np.array([40.0, 80.0, 120.0])


@pytest.mark.parametrize("null", ["shift", "csr", "relabel"])
@pytest.mark.parametrize("about", ["zones", "centres"])
def test_false_alarms_are_as_many_as_the_level_says(null, about):
    rng = np.random.default_rng(5)
    window = CountingWindow(FIELD, step=8.0)
    centres = shapely.get_coordinates(shapely.centroid(discs()))
    of_zones = about == "zones"
    field = RasterField.of_zones(discs(), ZONES, window) if of_zones else RasterField.about_centres(centres, R, window)
    alarms = 0
    for _ in range(200):
        cells = points_in(FIELD, 150, rng)
        mine, others = (cells[:60], cells[60:]) if null == "relabel" else (cells, None)
        simulated = field.simulated(null, mine, 39, rng, others=others)
        alarms += envelope(field.observed(mine).ratio, simulated.ratio).p <= 0.05
    assert 2 <= alarms <= 20  # 5 % of 200, four standard deviations


def test_relabelling_sees_what_complete_randomness_cannot_tell_apart():
    """All cells are at the structures; those of the kind that counts are no more so than the others."""
    rng = np.random.default_rng(9)
    field = RasterField.of_zones(discs(), ZONES, CountingWindow(FIELD, step=4.0))
    around = np.concatenate([np.array(one.centroid.coords) + rng.normal(0, 35, (40, 2)) for one in discs()])
    around = around[shapely.contains_xy(FIELD, around[:, 0], around[:, 1])]
    alarms = {"csr": 0, "relabel": 0}
    for _ in range(40):
        mixed = rng.permutation(around)
        observed = field.observed(mixed[:100]).ratio
        for null in alarms:
            drawn = field.simulated(null, mixed[:100], 39, rng, others=mixed[100:])
            alarms[null] += envelope(observed, drawn.ratio).p <= 0.05
    assert alarms["csr"] == 40 and alarms["relabel"] <= 7
