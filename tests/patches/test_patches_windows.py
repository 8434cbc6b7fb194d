"""Windows of stored regions: the right pixels and labels, nothing of elsewhere; without windows the old patches."""

import numpy as np
import pytest
import shapely
from patch_cohort import CONFIG, ROLES, TASK, expected_labels, own_shapes, propagated_shapes, tint, write_cohort

from stainda.cohort import Cohort
from stainda.patches import TrainingData, build_store
from stainda.patches.few_shot import FewShot
from stainda.patches.windows import cut_windows

SIZE, MARGIN = 32, 8  # CONFIG's, with the default margin of a quarter
SIDE = SIZE + 2 * MARGIN


def _ramp(side=SIDE):
    """(1, side, side, 3): red tells x, green tells y."""
    y, x = np.mgrid[:side, :side]
    return np.stack([4 * x, 4 * y, np.full_like(x, 7)], -1).astype(np.uint8)[None]


def _first(n=1):
    return np.zeros(n, np.intp)


def test_a_window_as_large_as_a_patch_is_cut_pixel_for_pixel():
    windows = [(0, 0, 32), (16, 3, 32), (8, 8, 32)]
    found = cut_windows(_ramp(), _first(3), windows, SIZE, smooth=True)
    for one, (x, y, side) in zip(found, windows, strict=True):
        assert (one == _ramp()[0, y : y + side, x : x + side]).all()


@pytest.mark.parametrize("window", [(0, 0, 48), (10, 4, 16), (3, 12, 24), (1, 2, 41)])
def test_a_resized_window_shows_the_places_it_covers(window):
    x, y, side = window
    found = cut_windows(_ramp(), _first(), [window], SIZE, smooth=True)[0].astype(float)
    centres = (np.arange(SIZE) + 0.5) * side / SIZE - 0.5  # of the result's pixels, in those of the window
    inner = slice(2, -2)  # at the rim a filter has nothing to its other side
    assert np.abs(found[inner, inner, 0] - 4 * (x + centres)[None, inner]).max() <= 1
    assert np.abs(found[inner, inner, 1] - 4 * (y + centres)[inner, None]).max() <= 1
    labels = cut_windows(_ramp()[..., 0], _first(), [window], SIZE, smooth=False)[0]
    nearest = 4 * (x + np.floor((np.arange(SIZE) + 0.5) * side / SIZE))
    assert (labels == nearest[None]).all(), "labels are those of the nearest pixel, and of no other value"


def test_what_is_reduced_is_averaged_and_not_skipped():
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 200
    found = cut_windows(stripes, _first(), [(0, 0, 64)], SIZE, smooth=True)[0]
    assert np.abs(found.astype(int) - 100).max() <= 30, "one of two columns alone would give 0 or 200"


def test_beyond_the_region_images_are_mirrored_and_labels_ignored():
    window = [(-4, 20, 32)]
    image = cut_windows(_ramp(), _first(), window, SIZE, smooth=True)[0]
    assert (image[0, :4, 0] == [12, 8, 4, 0]).all() and image[0, 4, 0] == 0
    labels = cut_windows(np.ones((1, SIDE, SIDE), np.uint8), _first(), window, SIZE, smooth=False)[0]
    assert (labels[:, :4] == 255).all() and (labels[28:] == 255).all() and (labels[:28, 4:] == 1).all()


@pytest.mark.parametrize("windows", [[(0, 0, 0)], [(0, 0)], [(0, 0, 8), (0, 0, 8)]])
def test_windows_that_are_none_are_refused(windows):
    with pytest.raises(ValueError, match="windows must be 1 rows"):
        cut_windows(_ramp(), _first(), windows, SIZE, smooth=True)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("slides"))


def _build(cohort, out, config=CONFIG, **more):
    shapes = {"own": own_shapes(cohort), "propagated": propagated_shapes(cohort)}
    return build_store(cohort, ROLES, config, TASK, shapes, out, seed=1, **more)


@pytest.fixture(scope="module")
def store(cohort, tmp_path_factory):
    return _build(cohort, tmp_path_factory.mktemp("store") / "patches", weights=True)


def test_without_windows_all_is_as_if_patches_were_stored_alone(cohort, store, tmp_path):
    alone = _build(cohort, tmp_path / "alone", CONFIG.model_copy(update={"margin": 0.0}), weights=True)
    assert store.margin == MARGIN and alone.margin == 0 and alone.regions("images").shape[1] == SIZE
    assert store.table.equals(alone.table)
    assert (store.images == alone.images).all() and (store.weights == alone.weights).all()
    for kind in ("own", "propagated"):
        assert (store.labels(kind) == alone.labels(kind)).all()
    for rule in ("source", "propagated", "all"):
        now, then = (TrainingData(one, ROLES, labels=rule) for one in (store, alone))
        rows = np.concatenate([now.labelled("train"), now.labelled("val")])
        assert (now.images(rows) == then.images(rows)).all() and (now.labels(rows) == then.labels(rows)).all()
        assert now.key != then.key, "what a training crops from is part of what it sees"
    now, then = (TrainingData(one, ROLES, labels="propagated") for one in (store, alone))
    assert (now.weights(now.labelled()) == then.weights(now.labelled())).all()


def test_windows_of_a_store_are_the_slide_and_its_labels_there(store):
    data = TrainingData(store, ROLES, labels="all")
    rows = data.labelled("train")
    windows = np.random.default_rng(0).integers(0, 2 * MARGIN + 1, (len(rows), 2))
    windows = np.column_stack([windows, np.full(len(rows), SIZE)])
    table = store.table.iloc[rows]
    images, labels = data.images(rows, windows), data.labels(rows, windows)
    for image, label, (x, y, _), row in zip(images, labels, windows, table.itertuples(), strict=True):
        left, top = row.x + 2 * (x - MARGIN), row.y + 2 * (y - MARGIN)  # 2 level-0 pixels per pixel
        offset = 10 if row.kind == "oracle" else 0
        assert (label == expected_labels(left, top, SIZE, 2.0, offset)).all()
        tissue = image[..., 2] == 90 + tint(row.slide)  # the rim of the slide and what lies beyond are white
        columns, lines = np.meshgrid(left + 2 * np.arange(SIZE), top + 2 * np.arange(SIZE))
        inside = (columns >= 30) & (columns < 450) & (lines >= 30) & (lines < 450)
        assert (tissue == inside).all() and tissue.any()
        assert np.abs(image[tissue][:, 0].astype(int) - (60 + columns[tissue] // 4)).max() <= 1
        assert np.abs(image[tissue][:, 1].astype(int) - (60 + lines[tissue] // 4)).max() <= 1


def test_weights_move_with_the_labels_they_weigh(store):
    data = TrainingData(store, ROLES, labels="propagated")
    rows = data.labelled("train")
    windows = np.tile([0, 0, SIDE], (len(rows), 1))
    whole = store.regions("weights")[rows] / 255
    carried = (store.table["kind"].iloc[rows] == "propagated").to_numpy()
    nearest = np.floor((np.arange(SIZE) + 0.5) * SIDE / SIZE).astype(int)
    found = data.weights(rows, windows)
    assert np.allclose(found[carried], whole[carried][:, nearest][:, :, nearest]) and (found[~carried] == 1).all()


def test_margins_of_validation_and_training_never_touch_on_the_slide_of_one_patient(tmp_path):
    cohort = write_cohort(tmp_path, patients=(("p1", "all"),))
    for margin in (0.25, 0.5):
        store = _build(cohort, tmp_path / f"store{margin}", CONFIG.model_copy(update={"margin": margin}))
        table = store.table[store.table["domain"] == "PAS@A"]
        reach = store.margin * table["downsample"]
        extent = (SIZE + store.margin) * table["downsample"]
        boxes = shapely.box(table["x"] - reach, table["y"] - reach, table["x"] + extent, table["y"] + extent)
        train, val = (shapely.union_all(boxes[(table["split"] == split).to_numpy()]) for split in ("train", "val"))
        assert not train.is_empty and not val.is_empty and train.intersection(val).area == 0


def test_around_few_annotated_patches_nothing_is_labelled(store):
    few = FewShot(2, "patches", seed=3)
    data = TrainingData(store, ROLES, labels="few_shot", few_shot=few)
    rows = [row for row in data.labelled("train") if store.table["kind"][row] == "oracle"]
    found = data.labels(rows, np.tile([0, MARGIN, SIZE], (len(rows), 1)))
    assert (found[:, :, :MARGIN] == 255).all() and (found[:, :, MARGIN:] != 255).all()
    assert (data.labels(rows) == store.labels("own")[rows]).all()
    of_patients = TrainingData(store, ROLES, labels="few_shot", few_shot=FewShot(1, "patients", seed=3))
    assert (of_patients.labels(rows, np.tile([0, MARGIN, SIZE], (len(rows), 1))) != 255).all()
