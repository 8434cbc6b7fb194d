"""Heads: targets with known answers, and objects that come back from perfect maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from touching_ellipses import SIZE, best_overlaps, crowd

from stainda.config import ModelConfig, PartConfig, PatchConfig, TaskConfig
from stainda.errors import ConfigError
from stainda.instances import DenseHead, build_head, describe_heads, task_for
from stainda.instances.base import known_heads
from stainda.instances.depths import depths, grow, relative_depths, seeds_of
from stainda.instances.regions import with_regions
from stainda.instances.star import UNIT, suppress

HEADS = sorted(set(known_heads()) - {"watershed"})  # which has no maps
DENSE = [name for name in HEADS if issubclass(known_heads()[name], DenseHead)]


def head_of(name, **params):
    return build_head(PartConfig(name=name, params=params))


def discs(*places, size=SIZE):
    """Numbered discs (row, column, radius), an earlier one over a later one."""
    y, x = np.mgrid[:size, :size]
    objects = np.zeros((size, size), np.int32)
    for value, (row, column, radius) in reversed(list(enumerate(places, start=1))):
        objects[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = value
    return objects


def separated(head, objects):
    """Objects from the perfect maps of objects, each connected piece of the foreground on its own."""
    from skimage.measure import label

    maps = head.targets(objects)
    if isinstance(head, DenseHead):
        maps = head.activate(torch.from_numpy(perfect_outputs(head, objects))[None])[0].numpy()
    pieces = label(objects > 0, connectivity=1)
    out = np.zeros_like(objects)
    for value in range(1, pieces.max() + 1):
        parts = head.separate(pieces == value, maps)
        out[parts > 0] = parts[parts > 0] + out.max()
    return out


def perfect_outputs(head, objects):
    """What a network would have to give: scores of probabilities, and values as they are."""
    targets = head.targets(objects)
    scored = {"contours": [0], "star": [0]}.get(head.name, [])
    for channel in scored:
        share = targets[channel].clip(1e-4, 1 - 1e-4)
        targets[channel] = np.log(share / (1 - share))
    return targets


@pytest.mark.parametrize("name", HEADS)
def test_two_touching_discs_come_back_as_they_were(name):
    objects = discs((48, 34, 15), (48, 62, 15))
    assert len(np.unique(objects)) == 3 and (objects[48, 20:76] > 0).all()  # they touch
    again = separated(head_of(name), objects)
    assert again.max() == 2
    assert best_overlaps(objects, again).min() > 0.95


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("seed", range(4))
def test_a_crowd_of_touching_objects_comes_back(name, seed):
    objects = crowd(seed)
    again = separated(head_of(name), objects)
    assert ((again > 0) == (objects > 0)).all()  # the foreground is that of the classes, divided
    assert again.max() == objects.max()
    assert best_overlaps(objects, again).min() > 0.8


@pytest.mark.parametrize("name", HEADS)
def test_numbers_of_objects_do_not_matter_and_an_empty_patch_is_empty(name):
    objects, head = crowd(1), head_of(name)
    other = np.where(objects > 0, 700 - 13 * objects, 0)
    np.testing.assert_allclose(head.targets(other), head.targets(objects), atol=1e-6)
    nothing = head.targets(np.zeros((32, 32), np.int64))
    assert nothing.shape == (head.channels, 32, 32) and nothing.dtype == np.float32 and not nothing.any()
    full = head.targets(np.full((32, 32), 7))
    assert np.isfinite(full).all() and full.shape == nothing.shape


@pytest.mark.parametrize("name", HEADS)
def test_a_piece_with_maps_of_nothing_is_one_object(name):
    inside = discs((48, 48, 12)) > 0
    parts = head_of(name).separate(inside, np.zeros((head_of(name).channels, SIZE, SIZE), np.float32))
    assert ((parts == 1) == inside).all()


@pytest.mark.parametrize("name", DENSE)
def test_the_loss_is_least_at_the_targets_ignores_the_unknown_and_has_a_gradient(name):
    head, objects = head_of(name), crowd(2)
    targets = torch.from_numpy(head.targets(objects))[None]
    inside = torch.from_numpy(objects > 0)[None, None]
    known = torch.ones_like(inside)
    right = torch.from_numpy(perfect_outputs(head, objects))[None]
    wrong = right + torch.randn(right.shape, generator=torch.Generator().manual_seed(1))
    wrong.requires_grad_(True)
    loss = head.loss(wrong, targets, inside, known)
    assert float(head.loss(right, targets, inside, known)) < float(loss.detach())
    loss.backward()
    assert float(wrong.grad.abs().sum()) > 0
    known[..., :40] = False
    other = wrong.detach().clone()
    other[..., :40] += 100
    hidden = head.loss(wrong.detach(), targets, inside, known), head.loss(other, targets, inside, known)
    assert float(hidden[0]) == pytest.approx(float(hidden[1]))


def test_slopes_are_of_known_pixels_alone():
    """A map that rises by 1 a pixel: each slope is 1, and an unknown column takes those of its neighbours with it."""
    plain, sloped = head_of("horizontal_vertical", slope_weight=0.0), head_of("horizontal_vertical", slope_weight=2.0)
    known, maps = torch.ones(1, 1, 3, 12, dtype=torch.bool), torch.zeros(1, 2, 3, 12)
    maps[:, 0] = torch.arange(12.0)

    def slopes():
        return sum(sign * float(head.loss(maps, maps * 0, known, known)) for sign, head in ((1, sloped), (-1, plain)))

    assert slopes() == pytest.approx(2 * 3 * 10 / (2 * 36), rel=1e-4)
    known[..., 5] = False
    assert slopes() == pytest.approx(2 * 3 * 7 / (2 * 33), rel=1e-4)


def test_the_depth_of_a_disc_is_the_distance_to_its_rim_and_the_patch_ends_no_object():
    objects = discs((48, 48, 20))
    depth = depths(objects)
    assert depth[48, 48] == pytest.approx(20.5, abs=0.6) and depth[48, 58] == pytest.approx(10.5, abs=0.6)
    assert not depth[objects == 0].any()
    assert relative_depths(objects).max() == 1 and relative_depths(objects)[48, 58] == pytest.approx(0.51, abs=0.04)
    half = np.zeros((40, 40), np.int32)
    half[:, :20] = 1
    np.testing.assert_array_equal(depths(half)[5, :20], np.arange(20, 0, -1))  # 20 at the patch's edge


def test_the_depth_between_two_objects_that_touch_is_one_pixel():
    halves = np.ones((20, 40), np.int32)
    halves[:, 20:] = 2
    depth = depths(halves)
    assert (depth[:, 19] == 1).all() and (depth[:, 20] == 1).all() and depth[10, 0] == 20


def test_the_contour_of_a_square_is_a_ring_of_its_width():
    square = np.zeros((30, 30), np.int32)
    square[5:25, 5:25] = 3
    ring = head_of("contours", width=2).targets(square)[0]
    expected = np.zeros((30, 30))
    expected[5:25, 5:25] = 1
    expected[7:23, 7:23] = 0
    np.testing.assert_array_equal(ring, expected)


def test_the_maps_of_a_disc_are_linear_from_minus_one_to_one():
    objects = discs((50, 40, 20))
    across, down = head_of("horizontal_vertical").targets(objects)
    np.testing.assert_allclose(across[50, 20:61], np.linspace(-1, 1, 41), atol=1e-6)
    np.testing.assert_allclose(down[30:71, 40], np.linspace(-1, 1, 41), atol=1e-6)
    assert not across[objects == 0].any() and abs(across[objects > 0].mean()) < 1e-6


def test_the_edge_between_two_objects_is_a_full_fall_and_within_an_object_there_is_none():
    head = head_of("horizontal_vertical")
    halves = np.ones((60, 80), np.int32)
    halves[:, 40:] = 2
    edges = head.edges(halves > 0, head.targets(halves))
    assert edges[30, 39:41].min() > 0.8 and edges[30, 10:30].max() < 0.05


def test_distances_from_the_middle_of_a_square_reach_its_sides_and_corners():
    square = np.zeros((61, 61), np.int32)
    square[10:51, 10:51] = 1
    head = head_of("star", rays=8)
    away = head.distances(square)[:, 30, 30]
    np.testing.assert_allclose(away[::2], 20.5, atol=0.5)
    np.testing.assert_allclose(away[1::2], 20.5 * np.sqrt(2), atol=1.0)
    np.testing.assert_allclose(head.targets(square)[1:, 30, 30] * UNIT, away, atol=1e-4)
    off = head.distances(square)[:, 30, 20]  # ten pixels to the left: right, down, left, up
    np.testing.assert_allclose(off[::2], [30.5, 20.5, 10.5, 20.5], atol=0.5)


def test_polygons_that_overlap_a_better_one_are_dropped():
    box = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    moved = np.stack([box + np.array([right, 0]) for right in (0, 2, 9, 40)])
    assert suppress(moved, 0.4) == [0, 2, 3]
    assert suppress(np.zeros((0, 8, 2)), 0.4) == []


def test_small_seeds_are_none_and_growing_fills_the_piece():
    core = np.zeros((20, 20), bool)
    core[2:6, 2:6], core[10:12, 10] = True, True
    assert seeds_of(core, 4).max() == 1 and seeds_of(core, 2).max() == 2
    inside = np.zeros((20, 20), bool)
    inside[1:13, 1:13] = True
    parts = grow(seeds_of(core, 2), np.zeros((20, 20)), inside)
    assert ((parts > 0) == inside).all() and set(np.unique(parts)) == {0, 1, 2}


def test_heads_are_listed_with_their_papers_and_a_wrong_name_names_the_nearest():
    rows = {row["name"]: row for row in describe_heads()}
    assert {"contours", "distance", "horizontal_vertical", "regions", "star"} <= set(rows)
    assert all("20" in row["reference"] and row["summary"] for row in rows.values())
    with pytest.raises(ConfigError, match="horizontal_vertical"):
        build_head(PartConfig(name="horizontal_verticel"))
    with pytest.raises(ConfigError, match="rays"):
        head_of("star", ray=8)


UNET, RCNN = ModelConfig(name="unet"), ModelConfig(name="mask_rcnn")
FINE, LEVEL_0 = PatchConfig(mpp=0.5), PatchConfig(downsample=2)


def test_a_two_stage_network_brings_its_head_with_the_diameter_of_objects_in_its_pixels():
    task = TaskConfig(kind="instances", instances="contours", object_um=8, object_px=30)
    assert with_regions(task, UNET, FINE) is task
    assert with_regions(task, RCNN, FINE).instances == PartConfig(name="regions", params={"object_px": 16.0})
    assert with_regions(task, RCNN, LEVEL_0).instances.params == {"object_px": 15.0}
    own = task.model_copy(
        update={"instances": PartConfig(name="regions", params={"object_px": 20, "least_score": 0.3})}
    )
    assert with_regions(own, RCNN, FINE).instances.params == {"object_px": 20, "least_score": 0.3}
    assert with_regions(with_regions(task, RCNN, FINE), RCNN, FINE) == with_regions(task, RCNN, FINE)


@pytest.mark.parametrize(
    ("task", "model", "patches", "said"),
    [
        ({"kind": "instances"}, RCNN, FINE, r"task\.object_um is not given"),
        ({"kind": "instances", "object_um": 8}, RCNN, LEVEL_0, r"task\.object_px is not given"),
        ({"kind": "segmentation"}, RCNN, FINE, "the task is of segmentation"),
        ({"kind": "points", "sigma_px": 2}, RCNN, FINE, "the task is of points"),
        ({"kind": "instances", "instances": "regions"}, UNET, FINE, "detects no regions"),
    ],
)
def test_a_network_and_a_task_that_do_not_fit_are_refused(task, model, patches, said):
    if isinstance(task.get("instances"), str):
        task = {**task, "instances": {"name": task["instances"]}}
    with pytest.raises(ConfigError, match=said):
        with_regions(TaskConfig(**task), model, patches)


def study_of(strategy, task="instances", model=None):
    """What is read of a study by :func:`task_for`."""
    from stainda.config import StrategyConfig, StudyConfig

    strategy = StrategyConfig(name="plain", **strategy)
    study = StudyConfig(
        study="heads", manifest="none.csv", task={"kind": task, "object_um": 8}, patches={"mpp": 0.5},
        model=model or {"name": "unet"}, strategies=[strategy], protocol={"sources": ["HE@A"]},
    )  # fmt: skip
    return study, strategy


def test_a_strategy_may_have_a_head_of_its_own():
    assert task_for(*study_of({})).instances.name == "contours"
    other = task_for(*study_of({"instances": {"name": "star", "params": {"rays": 8}}}))
    assert other.instances == PartConfig(name="star", params={"rays": 8}) and other.object_um == 8
    two_stage = {"model": {"name": "mask_rcnn"}}
    assert task_for(*study_of(two_stage)).instances.params == {"object_px": 16.0}
    given = {"name": "regions", "params": {"least_score": 0.3}}
    assert task_for(*study_of({**two_stage, "instances": given})).instances.params["least_score"] == 0.3


@pytest.mark.parametrize(
    ("strategy", "task", "said"),
    [
        ({"instances": {"name": "star"}}, "segmentation", "the task is of segmentation"),
        ({"instances": {"name": "star"}, "model": {"name": "mask_rcnn"}}, "instances", "detects objects itself"),
        ({"instances": {"name": "regions"}}, "instances", "strategy 'plain': instances.*detects no regions"),
        ({"instances": {"name": "stars"}}, "instances", "strategy 'plain': instances.*Did you mean 'star'"),
    ],
)
def test_a_head_that_does_not_fit_is_refused_by_the_name_of_the_strategy(strategy, task, said):
    with pytest.raises(ConfigError, match=said):
        task_for(*study_of(strategy, task))


def test_the_head_without_maps_cuts_at_necks():
    head, objects = head_of("watershed"), discs((48, 34, 15), (48, 62, 15))
    assert head.channels == 0 and head.targets(objects).shape == (0, SIZE, SIZE)
    parts = head.separate(objects > 0, head.targets(objects))
    assert parts.max() == 2 and ((parts > 0) == (objects > 0)).all()
    assert best_overlaps(objects, parts).min() > 0.95


def test_the_networks_that_bring_a_head_are_those_of_two_stages():
    from stainda.instances.regions import TWO_STAGE
    from stainda.models import TwoStageNetwork
    from stainda.models.catalogue import NETWORKS

    assert sorted(TWO_STAGE) == sorted(name for name, cls in NETWORKS.items() if issubclass(cls, TwoStageNetwork))
