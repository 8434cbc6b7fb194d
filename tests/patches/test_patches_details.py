"""Patches of tasks with instances and points: touching objects keep their numbers, points their nearness."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from patch_cohort import CONFIG, ROLES, TASK, own_shapes, propagated_shapes, write_cohort

from stainda.annotations import make_shapes
from stainda.annotations.raster import PixelGrid, number_objects
from stainda.cohort import Roles
from stainda.config import TaskConfig
from stainda.errors import LeakError, SlideError
from stainda.patches import PatchStore, TrainingData, build_store
from stainda.patches.details import HALF, as_discs, heat_of, heights, sigma_of

INSTANCES = TaskConfig(kind="instances", classes=TASK.classes)
POINTS = TaskConfig(kind="points", classes=TASK.classes, sigma_px=6)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("slides"))


def touching(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Each rectangle cut in two that share an edge."""
    parts = []
    for _, row in table.iterrows():
        x0, y0, x1, y1 = row.geometry.bounds
        middle = (x0 + x1) / 2
        parts.append(make_shapes([shapely.box(x0, y0, middle, y1), shapely.box(middle, y0, x1, y1)], row["class"]))
    return pd.concat(parts, ignore_index=True)


def build(cohort, out, task, cut=False, **more) -> PatchStore:
    own, propagated = own_shapes(cohort), propagated_shapes(cohort)
    if cut:
        own = {slide: touching(table) for slide, table in own.items()}
    return build_store(cohort, ROLES, CONFIG, task, {"own": own, "propagated": propagated}, out, seed=1, **more)


def seen(store, labels="source"):
    return TrainingData(store, Roles(ROLES.sources, ROLES.targets), labels=labels)


def test_two_halves_of_one_rectangle_are_two_objects_of_one_class(cohort, tmp_path):
    store = build(cohort, tmp_path / "patches", INSTANCES, cut=True)
    data = seen(store)
    rows = data.labelled()
    labels, numbers = data.labels(rows), data.details(rows)
    assert numbers.dtype == np.uint16 and numbers.shape == labels.shape
    assert ((numbers > 0) == (labels > 0)).all()
    divided = 0
    for label, number in zip(labels, numbers, strict=True):
        across = (number[:, 1:] != number[:, :-1]) & (label[:, 1:] == label[:, :-1]) & (label[:, 1:] > 0)
        divided += across.any()
        for value in np.unique(number[number > 0]):
            assert len(np.unique(label[number == value])) == 1
    assert divided >= 3  # the cut lies within the patch


def test_numbers_follow_a_window_as_labels_do(cohort, tmp_path):
    config = CONFIG.model_copy(update={"margin": 0.25})
    own = {slide: touching(table) for slide, table in own_shapes(cohort).items()}
    store = build_store(cohort, ROLES, config, INSTANCES, {"own": own}, tmp_path / "patches", seed=1)
    data = seen(store)
    rows = data.labelled()[:6]
    windows = np.tile([3, 5, 2 * store.meta["size"] // 3], (len(rows), 1))
    labels, numbers = data.labels(rows, windows), data.details(rows, windows)
    assert ((numbers > 0) == (labels > 0)).all() and numbers.max() >= 2
    outside = np.tile([-4, 0, store.meta["size"]], (len(rows), 1))
    assert (data.labels(rows, outside)[:, :, :4] == 255).all()


def test_the_numbers_of_a_target_are_refused_as_its_labels_are(cohort, tmp_path):
    store = build(cohort, tmp_path / "patches", INSTANCES)
    oracle = np.flatnonzero(store.table["kind"] == "oracle")
    with pytest.raises(LeakError):
        seen(store).details(oracle[:1])
    assert seen(store, "all").details(oracle[:1]) is not None


def test_other_kinds_of_tasks_keep_their_stores(cohort, tmp_path):
    plain, with_numbers = build(cohort, tmp_path / "a", TASK), build(cohort, tmp_path / "b", INSTANCES)
    assert not (plain.folder / "details.npy").exists() and "details" not in plain.meta
    assert (with_numbers.folder / "details.npy").exists()
    assert seen(plain).details(seen(plain).labelled()) is None
    assert (plain.labels("own") == with_numbers.labels("own")).all()
    assert (plain.images == with_numbers.images).all()
    assert plain.key != with_numbers.key and seen(plain).key != seen(with_numbers).key


def test_another_division_of_the_same_pixels_is_another_key_and_other_labels_of_targets_are_not(cohort, tmp_path):
    whole, divided = build(cohort, tmp_path / "a", INSTANCES), build(cohort, tmp_path / "b", INSTANCES, cut=True)
    assert seen(whole).key != seen(divided).key
    moved = own_shapes(cohort)
    targets = [
        section.slide for section in cohort if cohort.domain(section) in ROLES.targets and section.slide in moved
    ]
    for slide in targets:
        moved[slide] = moved[slide].iloc[:1]
    other = build_store(
        cohort,
        ROLES,
        CONFIG,
        INSTANCES,
        {"own": moved, "propagated": propagated_shapes(cohort)},
        tmp_path / "c",
        seed=1,
    )
    assert targets and seen(whole).key == seen(other).key


def test_numbers_on_a_grid_are_in_order_and_later_ones_lie_on_top():
    squares = np.array([shapely.box(0, 0, 4, 4), shapely.box(2, 0, 6, 4)], dtype=object)
    numbers = number_objects(squares, PixelGrid(0, 0, 8, 4, 1))
    np.testing.assert_array_equal(numbers[0], [1, 1, 2, 2, 2, 2, 0, 0])
    with pytest.raises(ValueError, match="16 bits"):
        number_objects(np.empty(70000, object), PixelGrid(0, 0, 2, 2, 1))


def test_nearness_is_a_gaussian_of_the_distance_and_carries_the_nearest_class():
    points, grid = np.array([[20.5, 30.5], [60.5, 30.5]]), PixelGrid(0, 0, 90, 60, 1)
    near, cls = heights(heat_of(points, [1, 2], 6.0, grid).astype(np.int64))
    y, x = np.mgrid[:60, :90]
    expected = np.maximum(*(np.exp(-((x - px) ** 2 + (y - 30) ** 2) / 72) for px in (20, 60)))
    np.testing.assert_allclose(near, expected, atol=1 / 255)
    assert cls[30, 20] == 1 and cls[30, 60] == 2 and cls[30, 38] == 1 and cls[30, 42] == 2 and cls[0, 0] == 0


def test_points_and_outlines_become_discs_of_half_height():
    shapes = make_shapes([shapely.Point(10, 20), shapely.box(30, 30, 50, 40)], "nucleus")
    discs = as_discs(shapes, 4.0)
    np.testing.assert_allclose(shapely.get_coordinates(discs.centroid), [[10, 20], [40, 35]], atol=1e-9)
    assert discs.area.iloc[0] == pytest.approx(np.pi * (4 * HALF) ** 2, rel=0.02)
    assert np.exp(-(HALF**2) / 2) == pytest.approx(0.5)


def test_patches_of_points_hold_discs_and_their_nearness(cohort, tmp_path):
    data = seen(build(cohort, tmp_path / "patches", POINTS))
    rows = data.labelled()
    labels, details = data.labels(rows), data.details(rows)
    near, cls = heights(details.astype(np.int64))
    assert near.max() > 0.9 and (labels == 1).any()
    inside = labels > 0
    assert near[inside].min() > 0.45 and near[~inside].max() < 0.55
    assert (cls[inside] == labels[inside]).all()


def test_a_size_in_micrometres_needs_the_pixel_size():
    task = TaskConfig(kind="points", sigma_um=2.0)
    assert sigma_of(task, 0.5, "S1") == 4.0
    with pytest.raises(SlideError, match="sigma_px"):
        sigma_of(task, None, "S1")
    assert sigma_of(TaskConfig(kind="points", sigma_um=2.0, sigma_px=3.0), None, "S1") == 3.0
    with pytest.raises(ValueError, match="sigma_um"):
        TaskConfig(kind="points")
    with pytest.raises(ValueError, match="split_touching"):
        TaskConfig(kind="instances", split_touching=True)
