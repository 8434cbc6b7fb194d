"""Objects that touch on a whole slide: no cut and no double at tile borders, one class each; points of heat maps."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "instances"))
from test_heads import HEADS, best_overlaps, crowd, discs, head_of

from stainda.annotations.labels import outlines
from stainda.annotations.raster import PixelGrid, number_objects
from stainda.config import TaskConfig
from stainda.objects.separation import separation_counts
from stainda.patches.details import heat_of
from stainda.prediction.instance_objects import find_instances
from stainda.prediction.objects import find_candidates, find_objects
from stainda.prediction.peaks import heat_peaks
from stainda.prediction.probability_map import ProbabilityMap
from stainda.prediction.regions import ArrayRegion
from stainda.prediction.tiling import TilePlan, blend_tiles

INSTANCES = TaskConfig(kind="instances", classes=("nucleus",), instances={"name": "distance"}, min_object_px=10)


def soft(mask):
    """A probability that crosses one half at the border of a mask."""
    from scipy.ndimage import gaussian_filter

    return np.clip(gaussian_filter(mask.astype(np.float32), 0.7), 0, 1)


def map_of(head, objects, downsample=1.0, shares=None):
    shares = soft(objects > 0)[None] if shares is None else shares
    return ProbabilityMap(shares, downsample, 0.0, 0.0, ("a", "b")[: len(shares)], maps=head.targets(objects))


def numbered(shapes, size):
    return number_objects(np.asarray(shapes.geometry.values, object), PixelGrid(0, 0, size, size, 1)).astype(int)


def tiled(answer, size, tile, channels):
    """A map put together from tiles as a slide's is; ``answer`` gives the map of the pixels shown, (C, t, t)."""
    y, x = np.mgrid[:size, :size]
    image = np.stack([x // 256, x % 256, y], -1).astype(np.uint8)  # says where a pixel is
    out, plan = np.zeros((channels, size, size), np.float32), TilePlan(size, size, tile, 0, 32)

    def of_tiles(tiles):
        return np.stack([answer(part) for part in tiles])

    blend_tiles(of_tiles, ArrayRegion(image, None, 0, 0, 1.0), plan, out, batch=4, name="slide")
    return out


@pytest.mark.parametrize("name", HEADS)
def test_objects_of_tiles_are_those_of_one_large_tile(name):
    """Each tile answers from what it shows alone: near its rim objects are cut, and their maps of the rest."""
    size, head = 192, head_of(name)
    objects = np.zeros((size, size), np.int64)
    for place, seed in enumerate(range(4)):
        part = crowd(seed)
        rows, columns = 96 * (place // 2), 96 * (place % 2)
        objects[rows : rows + 96, columns : columns + 96] = np.where(part > 0, part + 100 * place, 0)

    def answer(shown):
        at = shown.astype(int)
        inside = at[:, :, 2] > 0
        columns, rows = at[:, :, 0] * 256 + at[:, :, 1], at[:, :, 2]
        seen = np.where(inside | (at.sum(-1) > 0), objects[rows % size, columns % size], 0)
        return np.concatenate([soft(seen > 0)[None], head.targets(seen)])

    whole, parts = tiled(answer, size, 192, 1 + head.channels), tiled(answer, size, 96, 1 + head.channels)
    result = []
    for array in (whole, parts):
        map_ = ProbabilityMap(array[:1], 1.0, 0.0, 0.0, ("nucleus",), maps=array[1:])
        result.append(find_instances(map_, head, (0.5,), 10))
    assert len(result[0]) == len(result[1]) == len(np.unique(objects)) - 1
    first, second = (numbered(shapes, size) for shapes in result)
    assert best_overlaps(first, second).min() > 0.85
    assert best_overlaps(objects, second).min() > 0.75


@pytest.mark.parametrize("name", HEADS)
def test_touching_discs_are_separated_in_level_0_pixels(name):
    objects, head = discs((48, 34, 15), (48, 62, 15)), head_of(name)
    shapes = find_instances(map_of(head, objects, downsample=2.0), head, (0.5,), 10)
    middles = sorted((shape.centroid.x, shape.centroid.y) for shape in shapes.geometry)
    np.testing.assert_allclose(middles, [(69, 97), (125, 97)], atol=2.5)
    assert shapes.geometry.is_valid.all() and shapes["score"].between(0.8, 1).all()
    counts = separation_counts(outlines(objects, downsample=2.0), shapes)
    assert (counts.merged, counts.divided) == (0, 0)


def test_an_object_has_one_class_that_of_most_of_it():
    objects, head = discs((48, 34, 15), (48, 62, 15)), head_of("distance")
    shares = np.stack([soft(objects > 0), np.zeros(objects.shape, np.float32)])
    second = (objects == 2) & (np.mgrid[:96, :96][0] > 40)  # the classes of pixels do not agree within one object
    shares[1][second], shares[0][second] = shares[0][second], 0
    shapes = find_instances(map_of(head, objects, shares=shares), head, (0.5, 0.5), 10)
    assert sorted(shapes["class"]) == ["a", "b"] and len(shapes) == 2


def test_small_objects_are_left_out_and_fainter_ones_are_candidates():
    objects, head = discs((48, 30, 12), (48, 56, 12), (80, 80, 6)), head_of("distance")
    map_ = map_of(head, objects)
    map_.array[0][objects == 3] *= 0.4
    shapes = find_objects(map_, INSTANCES, (0.5,), None)
    assert len(shapes) == 2
    assert len(find_objects(map_, INSTANCES.model_copy(update={"min_object_px": 500}), (0.5,), None)) == 0
    every = find_candidates(shapes, map_, INSTANCES, (0.5,), None)
    assert len(every) == 3 and every["score"].iloc[2] < 0.5


def test_merged_and_divided_objects_are_counted():
    squares = [shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10), shapely.box(40, 0, 50, 10)]
    both, halves = shapely.box(0, 0, 20, 10), [shapely.box(40, 0, 45, 10), shapely.box(45, 0, 50, 10)]
    counts = separation_counts(squares, [both, *halves])
    assert (counts.merged, counts.divided) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert separation_counts(squares, squares) == separation_counts(squares, []).__class__(0.0, 0.0)
    assert np.isnan(separation_counts([], squares).merged)


def test_peaks_are_where_the_points_are_whatever_the_bands(monkeypatch):
    rng = np.random.default_rng(1)
    points = np.stack(np.meshgrid(np.arange(12, 220, 16), np.arange(12, 220, 16)), -1).reshape(-1, 2) + rng.uniform(
        -4, 4, (169, 2)
    )
    heat = (heat_of(points, [1] * len(points), 2.5, PixelGrid(0, 0, 232, 232, 1)) % 256) / 255
    centres, height = heat_peaks(heat, 2.5, 0.5)
    assert len(centres) == len(points) and height.min() > 0.85
    away = np.linalg.norm(centres[:, None] - points[None], axis=-1)
    assert away.min(0).max() < 0.8
    monkeypatch.setattr("stainda.prediction.peaks._BAND", 37)
    again, _ = heat_peaks(heat, 2.5, 0.5)
    np.testing.assert_allclose(again[np.lexsort(again.T)], centres[np.lexsort(centres.T)])
    assert len(heat_peaks(np.zeros((20, 20)), 2.0, 0.5)[0]) == 0


def test_two_near_peaks_are_two_points_and_nearer_ones_are_one():
    for apart, count in ((8, 2), (2, 1)):
        heat = (
            heat_of(np.array([[20.5, 20.5], [20.5 + apart, 20.5]]), [1, 1], 2.5, PixelGrid(0, 0, 50, 40, 1)) % 256
        ) / 255
        assert len(heat_peaks(heat, 2.5, 0.5)[0]) == count


def test_points_are_in_level_0_pixels_with_their_class():
    task = TaskConfig(kind="points", classes=("a", "b"), sigma_um=5.0)
    array = np.zeros((2, 60, 60), np.float32)
    for channel, (x, y) in enumerate([(20.5, 30.5), (45.5, 10.5)]):
        array[channel] = (heat_of(np.array([[x, y]]), [1], 2.5, PixelGrid(0, 0, 60, 60, 1)) % 256) / 255
    map_ = ProbabilityMap(array, 4.0, 100.0, 200.0, ("a", "b"), mpp=0.5)  # 2 µm a pixel: 2.5 pixels
    shapes = find_objects(map_, task, (0.5, 0.5), None)
    assert list(shapes.geometry.geom_type) == ["Point"] * 2 and list(shapes["class"]) == ["a", "b"]
    np.testing.assert_allclose(shapely.get_coordinates(shapes.geometry.values), [[182, 322], [282, 242]], atol=1e-6)
    faint = ProbabilityMap(0.3 * array, 4.0, 100.0, 200.0, ("a", "b"), mpp=0.5)
    nothing = find_objects(faint, task, (0.5, 0.5), None)
    assert len(nothing) == 0 and len(find_candidates(nothing, faint, task, (0.5, 0.5), None)) == 2
    assert len(find_candidates(shapes, map_, task, (0.5, 0.5), None)) == 2


def test_maps_pass_next_to_the_scores_and_copies_of_a_network_have_them_too():
    from copy import deepcopy

    from stainda.models import MAPS, add_maps
    from stainda.models.unet import UNet
    from stainda.strategies.capture import listening

    network = UNet(3, 2 + 3, depth=2, width=4).eval()
    images = torch.rand(1, 3, 32, 32)
    every = network(images)
    names = set(network.state_dict())
    add_maps(network, 3)
    for each in (network, deepcopy(network)):
        with listening(each, (MAPS,)) as maps:
            scores = each(images)
        assert scores.shape[1] == 2 and each.n_classes == 2 and set(each.state_dict()) == names
        torch.testing.assert_close(torch.cat([scores, maps[0]], 1), every)
