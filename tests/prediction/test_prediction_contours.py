"""Outlines at the threshold, between pixels: where an analytic disc is, the same in any bands, one for each region."""

import numpy as np
import pytest
import shapely
from scipy import ndimage

from stainda.annotations import PixelGrid, instances, rasterise
from stainda.config import TaskConfig
from stainda.prediction import components
from stainda.prediction.objects import ProbabilityMap, find_objects, label_map

TASK = TaskConfig(classes=("a",))


def _map(array, **values):
    array = np.asarray(array, np.float32)
    array = array[None] if array.ndim == 2 else array
    names = tuple("ab"[: len(array)])
    return ProbabilityMap(array, **{"downsample": 1.0, "x": 0.0, "y": 0.0, "classes": names, **values})


def _disc(cx, cy, radius, size=64):
    """What a sure network with a soft rim says: linear in the distance, the threshold 0.5 on the circle."""
    y, x = np.mgrid[:size, :size] + 0.5
    return np.clip(0.5 + (radius - np.hypot(x - cx, y - cy)) / 4, 0, 1)


def _blobs(seed, shape=(83, 120), classes=1, sigma=3.0):
    noise = np.random.default_rng(seed).normal(size=(classes, *shape))
    smooth = ndimage.gaussian_filter(noise, (0, sigma, sigma))
    return 0.5 + 0.2 * smooth / smooth.std()


def _same(one, two):
    assert len(one) == len(two)
    assert all(shapely.equals_exact(a.normalize(), b.normalize(), 1e-9) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("centre", [(30.0, 30.0), (31.3, 28.7), (30.5, 33.25)])
@pytest.mark.parametrize("radius", [6.0, 12.4, 20.0])
def test_an_analytic_disc_comes_back(centre, radius):
    shapes = find_objects(_map(_disc(*centre, radius)), TASK, (0.5,), None)
    assert len(shapes) == 1
    disc = shapes.geometry.iloc[0]
    np.testing.assert_allclose((disc.centroid.x, disc.centroid.y), centre, atol=0.05)
    assert disc.area == pytest.approx(np.pi * radius**2, rel=0.01)
    distances = np.hypot(*(shapely.get_coordinates(disc) - centre).T)
    assert np.abs(distances - radius).max() < 0.05, "no staircase"


def test_level_0_is_reached_by_scale_and_place():
    shapes = find_objects(_map(_disc(31.3, 28.7, 12), downsample=8.0, x=1000.0, y=-50.0), TASK, (0.5,), None)
    disc = shapes.geometry.iloc[0]
    np.testing.assert_allclose((disc.centroid.x, disc.centroid.y), (1000 + 8 * 31.3, -50 + 8 * 28.7), atol=0.4)
    assert disc.area == pytest.approx(np.pi * (8 * 12) ** 2, rel=0.01)


def test_the_threshold_moves_the_outline():
    radii = [np.sqrt(find_objects(_map(_disc(32, 32, 15)), TASK, (t,), None).area.iloc[0] / np.pi)
             for t in (0.3, 0.5, 0.7)]  # fmt: skip
    np.testing.assert_allclose(radii, (15.8, 15, 14.2), atol=0.1)


@pytest.mark.parametrize("rows", [1, 2, 7, 40])
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("split", [False, True])
def test_bands_leave_no_seam(monkeypatch, rows, classes, split):
    found = _map(_blobs(3, classes=classes))
    task = TaskConfig(classes=found.classes, split_touching=split, min_object_px=5)
    whole = find_objects(found, task, (0.55, 0.5)[:classes], None)
    monkeypatch.setattr(components, "BAND_VALUES", rows * 120 * classes)
    bands = find_objects(found, task, (0.55, 0.5)[:classes], None)
    assert len(whole) > 5
    _same(whole.geometry, bands.geometry)
    np.testing.assert_allclose(whole["score"], bands["score"])
    assert list(whole["class"]) == list(bands["class"]) and list(whole["id"]) == list(bands["id"])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sigma", [0.6, 2.0])
def test_objects_are_the_connected_regions_above_the_threshold(seed, sigma):
    """One valid outline for each region, with the middles of exactly its pixels inside, at the rim too."""
    array = _blobs(seed, classes=2, sigma=sigma)
    found, limits = _map(array), (0.5, 0.55)
    labels = label_map(found, limits)
    shapes = find_objects(found, TaskConfig(classes=("a", "b")), limits, None)
    assert shapes.geometry.is_valid.all() and (shapes.geometry.geom_type == "Polygon").all()
    for index, cls in enumerate("ab"):
        regions = instances(labels == index + 1)
        mine = shapes[shapes["class"] == cls]
        assert len(mine) == regions.max()
        sizes = [int(np.isin(regions, number).sum()) for number in range(1, regions.max() + 1)]
        middles = shapely.points(np.argwhere(regions > 0)[:, ::-1] + 0.5)
        inside = shapely.STRtree(middles).query(mine.geometry.values, predicate="contains")[0]
        assert np.bincount(inside, minlength=len(mine)).tolist() == sizes
    assert (shapes.total_bounds >= 0).all() and (shapes.total_bounds <= (120, 83, 120, 83)).all()
    cover = rasterise(shapes, ("a", "b"), PixelGrid(0, 0, 120, 83, 1.0))
    assert (cover == labels).mean() > 0.98


def test_outlines_of_touching_classes_share_their_border():
    array = np.zeros((2, 20, 30), np.float32)
    array[0], array[1] = np.linspace(1, 0, 30), np.linspace(0, 1, 30)
    one, two = find_objects(_map(array), TaskConfig(classes=("a", "b")), (0.2, 0.2), None).geometry
    assert one.intersection(two).area == 0 and one.distance(two) == 0
    assert one.union(two).area == pytest.approx(600, abs=2)


def test_holes_are_kept_and_what_lies_in_them_is_another():
    ring = _disc(32, 32, 24) - _disc(32, 32, 14) + _disc(32, 32, 6)
    shapes = find_objects(_map(ring), TASK, (0.5,), None)
    assert len(shapes) == 2
    large = shapes.geometry.iloc[int(shapes.area.argmax())]
    assert len(large.interiors) == 1
    assert large.area == pytest.approx(np.pi * (24**2 - 14**2), rel=0.01)


def test_nothing_lies_beyond_the_slide():
    """A slide of 1023 × 517 pixels at 3 pixels each: the last pixels of the map reach to 1023 and 519."""
    shapes = find_objects(_map(np.ones((173, 341)), downsample=3.0, extent=(1023.0, 517.0)), TASK, (0.5,), None)
    assert shapes.total_bounds.tolist() == [0, 0, 1023, 517]
    half = np.zeros((173, 341))
    half[:, -1] = half[-1] = 0.9
    shapes = find_objects(_map(half, downsample=3.01, extent=(1023.0, 517.0)), TASK, (0.5,), None)
    assert (shapes.total_bounds[2:] == (1023, 517)).all() and shapes.geometry.is_valid.all()
    cells = _map(np.ones((9, 17)), downsample=64.0, extent=(1023.0, 517.0), cell=16.0)
    for task in ({"kind": "classification"}, {"kind": "classification", "objects": "peaks", "object_px": 900}):
        shapes = find_objects(cells, TaskConfig(classes=("a",), **task), (0.5,), None)
        assert len(shapes) and (shapes.total_bounds >= 0).all()
        assert (shapes.total_bounds[2:] <= (1023, 517)).all()


def test_faint_specks_are_objects_too():
    array = np.zeros((9, 9))
    array[4, 4] = 0.5
    shapes = find_objects(_map(array), TASK, (0.5,), None)
    assert len(shapes) == 1 and shapes.geometry.iloc[0].contains(shapely.Point(4.5, 4.5))


def test_parts_of_touching_objects_do_not_overlap():
    array = np.maximum(_disc(20, 32, 12), _disc(42, 32, 12))
    shapes = find_objects(_map(array), TaskConfig(classes=("a",), split_touching=True), (0.5,), None)
    one, two = shapes.geometry
    assert one.intersection(two).area < 1e-9
    whole = find_objects(_map(array), TASK, (0.5,), None)
    assert one.area + two.area == pytest.approx(whole.area.sum(), rel=2e-3)
    assert all(0.5 < score < 1 for score in shapes["score"])
