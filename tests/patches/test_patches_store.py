"""A store holds what it says: the right pixels, the right labels, the right patients, whole or not at all."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from patch_cohort import (
    CONFIG,
    MPP,
    RECTANGLES,
    ROLES,
    SIDE,
    TASK,
    expected_labels,
    own_shapes,
    propagated_shapes,
    rectangles,
    slide_image,
    tint,
    write_cohort,
)
from PIL import Image

from stainda.annotations import empty_shapes, make_shapes
from stainda.cohort import Cohort
from stainda.config import TaskConfig
from stainda.errors import AnnotationError, LeakError, SlideError, StaindaError
from stainda.patches import PatchStore, build_store
from stainda.patches.planning import drawn_in_turn
from stainda.study.executor import Workers, prepare_nothing


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("slides"))


def build(cohort, out, config=CONFIG, seed=1, own=None, propagated=None, task=TASK, **more) -> PatchStore:
    shapes = {
        "own": own_shapes(cohort) if own is None else own,
        "propagated": propagated_shapes(cohort) if propagated is None else propagated,
    }
    return build_store(cohort, ROLES, config, task, shapes, out, seed=seed, **more)


@pytest.fixture(scope="module")
def store(cohort, tmp_path_factory) -> PatchStore:
    return build(cohort, tmp_path_factory.mktemp("store") / "patches")


def test_labels_are_those_of_the_shapes(store):
    offsets = {"labelled": 0, "propagated": 4, "oracle": 10}
    seen = set()
    for index, row in enumerate(store.table.itertuples()):
        kind = "propagated" if row.kind == "propagated" else "own"
        for other in ("own", "propagated"):
            if other != kind or row.kind == "unlabelled":
                assert (store.labels(other)[index] == 255).all() and not store.has_labels(other)[index]
        if row.kind == "unlabelled":
            continue
        assert store.has_labels(kind)[index]
        expected = expected_labels(row.x, row.y, 32, 2.0, offsets[row.kind])
        assert (store.labels(kind)[index] == expected).all()
        assert (row.px_glomerulus, row.px_vessel) == ((expected == 1).sum(), (expected == 2).sum())
        seen |= set(np.unique(expected))
    assert seen == {0, 1, 2}


def test_pixels_are_those_of_the_slide(store):
    for index, row in enumerate(store.table.itertuples()):
        image = slide_image(tint(row.slide)).astype(float)
        x, y = int(row.x), int(row.y)
        cut = image[y : y + 64, x : x + 64].reshape(32, 2, 32, 2, 3).mean((1, 3))
        assert np.abs(store.images[index] - cut).max() <= 0.51


def test_who_is_in_it(store):
    found = set(store.table[["slide", "split", "kind", "domain"]].itertuples(index=False, name=None))
    assert found == {
        ("p1_PAS", "train", "labelled", "PAS@A"),
        ("p1_PAS", "train", "unlabelled", "PAS@A"),
        ("p2_PAS", "val", "labelled", "PAS@A"),
        ("p1_SR", "train", "unlabelled", "SR@A"),
        ("p2_SR", "val", "unlabelled", "SR@A"),
        ("p1_SR", "train", "propagated", "SR@A"),
        ("p1_SR", "train", "oracle", "SR@A"),
    }
    assert (store.table["kind"] == "oracle").to_numpy().nonzero()[0].min() == (store.table["kind"] != "oracle").sum()
    assert store.meta["downsample"] == dict.fromkeys(["p1_PAS", "p1_SR", "p2_PAS", "p2_SR"], 2.0)
    assert set(store.tissue_pixels) == set(store.meta["downsample"]) and store.meta["notes"] == []
    assert all(
        len(tissue_pixel) == 4096 and (tissue_pixel == 255).all(1).mean() < 0.05
        for tissue_pixel in store.tissue_pixels.values()
    )


def test_objects_and_negatives(store):
    labelled = store.table[store.table["kind"] == "labelled"]
    counts = labelled.groupby(["slide", "around"]).size()
    assert (counts == 3 * len(RECTANGLES)).all() and len(counts) == 4
    objects, negatives = (labelled[labelled["around"] == around] for around in ("object", "negative"))
    assert (objects["n_objects"] >= 1).all() and (negatives["n_objects"] == 0).all()
    assert (negatives[["px_glomerulus", "px_vessel"]].to_numpy(int) == 0).all()
    assert (negatives["tissue"] >= CONFIG.min_tissue).all()
    inside = labelled[["x", "y"]].to_numpy()
    assert (inside >= 0).all() and (inside + 64 <= SIDE).all()
    assert len(set(objects["x"])) > 10  # shifted at random
    unlabelled = store.table[store.table["kind"] == "unlabelled"]
    assert (unlabelled.groupby("slide").size() == 24).all()  # as many as a source slide gives
    assert (unlabelled["tissue"] >= CONFIG.min_tissue).all() and unlabelled["n_objects"].isna().all()


def two_processes(function):
    return Workers(2, function, prepare=prepare_nothing)


@pytest.mark.slow
def test_several_processes_cut_the_same_store(cohort, store, tmp_path):
    assert build(cohort, tmp_path / "again", pool=two_processes).key == store.key
    cohort = write_cohort(tmp_path)
    cohort.section("p2_SR").path.write_bytes(b"not a picture")
    with pytest.raises(SlideError, match="p2_SR"):
        build(cohort, tmp_path / "p", pool=two_processes)


def test_same_seed_same_store(cohort, store, tmp_path):
    assert build(cohort, tmp_path / "again").key == store.key
    other = build(cohort, tmp_path / "other", seed=2)
    assert other.key != store.key and set(other.table["x"]) != set(store.table["x"])


def test_another_slide_changes_nothing_for_the_others(cohort, store, tmp_path):
    fewer = Cohort(tuple(section for section in cohort if section.slide != "p1_SR"))
    smaller = build(fewer, tmp_path / "fewer")
    assert (smaller.images[smaller.table["slide"] == "p1_PAS"] == store.images[store.table["slide"] == "p1_PAS"]).all()


@pytest.mark.parametrize("change", ["moved", "none", "absent"])
def test_a_targets_own_annotations_reach_oracle_rows_only(cohort, store, tmp_path, change):
    own = own_shapes(cohort, target_offset=-20)
    for slide in [slide for slide in own if slide.endswith("SR") and change != "moved"]:
        own[slide] = empty_shapes()
        if change == "absent":
            del own[slide]
    changed = build(cohort, tmp_path / change, own=own)
    n = int((store.table["kind"] != "oracle").sum())
    assert int((changed.table["kind"] != "oracle").sum()) == n
    assert changed.table.iloc[:n].equals(store.table.iloc[:n])
    assert changed.images[:n].tobytes() == store.images[:n].tobytes()
    for kind in ("own", "propagated"):
        assert changed.labels(kind)[:n].tobytes() == store.labels(kind)[:n].tobytes()
    assert all((changed.tissue_pixels[slide] == pixels).all() for slide, pixels in store.tissue_pixels.items())
    assert changed.key != store.key and ((changed.table["kind"] == "oracle").sum() == 0) == (change == "absent")


def test_annotations_of_test_patients_change_nothing(cohort, store, tmp_path):
    own = {**own_shapes(cohort), "p3_PAS": rectangles(77), "p3_SR": rectangles(55)}
    assert build(cohort, tmp_path / "p", own=own).key == store.key


def test_doubtful_propagated_shapes_are_ignored(cohort, tmp_path):
    shapes = rectangles(4)
    shapes["confidence"] = [0.9, 0.2, np.nan, 0.9]
    store = build(cohort, tmp_path / "p", propagated={"p1_SR": shapes}, min_confidence=0.5)
    rows = np.flatnonzero(store.table["kind"] == "propagated")
    x0, y0, x1, y1 = RECTANGLES[1]
    found = 0
    for index in rows:
        row = store.table.iloc[index]
        centres_x, centres_y = row.x + (np.arange(32) + 0.5) * 2, row.y + (np.arange(32) + 0.5) * 2
        inside = ((centres_x >= x0 + 4) & (centres_x < x1 + 4))[None] & ((centres_y >= y0) & (centres_y < y1))[:, None]
        assert ((store.labels("propagated")[index] == 255) == inside).all()
        found += int(inside.sum())
    assert (store.table.iloc[rows]["around"] == "object").sum() == 9  # nothing is cut around it
    assert (store.labels("propagated")[rows][(store.table.iloc[rows]["around"] == "negative").to_numpy()] == 0).all()
    certain = build(cohort, tmp_path / "q", propagated={"p1_SR": shapes})
    assert (certain.labels("propagated")[certain.has_labels("propagated")] != 255).all()


def test_a_large_object_gets_more_patches(cohort, tmp_path):
    large = rectangles()
    large.loc[0, "geometry"] = shapely.box(40, 40, 440, 300)
    store = build(cohort, tmp_path / "p", own={**own_shapes(cohort), "p1_PAS": large})
    n = ((store.table["slide"] == "p1_PAS") & (store.table["around"] == "object")).sum()
    assert n == 3 * (-(-400 * 260 // 64**2) + 3)


def test_where_no_place_is_free_of_objects_patches_lie_anywhere(cohort, tmp_path):
    crowded = rectangles()
    crowded.loc[1, "geometry"] = shapely.MultiPoint(
        [(x, y) for x in range(30, 450, 40) for y in range(30, 450, 40)]
    ).buffer(3)
    store = build(cohort, tmp_path / "p", own={**own_shapes(cohort), "p1_PAS": crowded})
    rows = store.table[(store.table["slide"] == "p1_PAS") & (store.table["kind"] == "labelled")]
    counts = rows.groupby("around").size()
    assert counts["tissue"] == counts["object"] and "negative" not in counts and (rows["n_objects"] > 0).all()
    assert any("0 of" in note["reason"] for note in store.meta["notes"])


def test_a_grid_covers_the_tissue(cohort, tmp_path):
    store = build(cohort, tmp_path / "p", config=CONFIG.model_copy(update={"grid": True, "stride": 32}))
    rows = store.table[(store.table["slide"] == "p1_PAS") & (store.table["kind"] == "labelled")]
    covered = np.zeros((SIDE, SIDE), bool)
    for row in rows.itertuples():
        covered[int(row.y) : int(row.y) + 64, int(row.x) : int(row.x) + 64] = True
    assert covered[64:416, 64:416].all() and (store.table["around"] == "grid").all()


def test_large_slides_are_read_in_pieces_alike(cohort, store, tmp_path, monkeypatch):
    from stainda.patches import pixels

    monkeypatch.setattr(pixels, "_WHOLE", 0)
    assert build(cohort, tmp_path / "p").key == store.key


def test_a_fixed_downsample_needs_no_mpp(tmp_path):
    cohort = write_cohort(tmp_path, mpp=None)
    with pytest.raises(SlideError, match=r"p1_PAS.*column mpp"):
        build(cohort, tmp_path / "p")
    store = build(cohort, tmp_path / "p", config=CONFIG.model_copy(update={"mpp": None, "downsample": 3.0}))
    assert set(store.table["downsample"]) == {3.0} and store.meta["slide_mpp"]["p1_PAS"] is None


def test_one_patient_is_divided_into_bands(tmp_path):
    cohort = write_cohort(tmp_path, patients=(("p1", "all"),))
    store = build(cohort, tmp_path / "p", config=CONFIG.model_copy(update={"size": 24}))
    labelled = store.table[store.table["kind"] == "labelled"]
    train, val = (labelled[labelled["split"] == split] for split in ("train", "val"))
    assert len(train) and len(val)
    left, right = sorted((train["x"], val["x"]), key=lambda x: x.min())
    assert right.min() - (left.max() + 48) >= 48 - 2  # one patch apart
    assert train["px_glomerulus"].sum() and val["px_glomerulus"].sum()
    target = store.table[store.table["domain"] == "SR@A"]
    assert set(target["split"]) == {"train"} and "one patient" in store.meta["single_patient"]
    assert set(store.meta["bands"]["p1_PAS"]) == {"train", "val"}


def test_a_store_is_used_again_until_something_changes(tmp_path):
    cohort = write_cohort(tmp_path)
    first = build(cohort, tmp_path / "p")
    before = (tmp_path / "p" / "images.npy").stat().st_mtime_ns
    assert build(cohort, tmp_path / "p").key == first.key
    assert (tmp_path / "p" / "images.npy").stat().st_mtime_ns == before
    Image.fromarray(slide_image(50)).save(cohort.section("p1_PAS").path)
    assert build(cohort, tmp_path / "p").key != first.key
    (tmp_path / "p" / "meta.json").unlink()
    assert len(build(cohort, tmp_path / "p")) == len(first)


def test_a_failure_leaves_the_older_store_and_no_rest(tmp_path):
    cohort = write_cohort(tmp_path)
    first = build(cohort, tmp_path / "run" / "p")
    cohort.section("p2_SR").path.write_bytes(b"not a picture")
    with pytest.raises(SlideError, match="p2_SR"):
        build(cohort, tmp_path / "run" / "p")
    assert PatchStore.open(tmp_path / "run" / "p").key == first.key
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["p"]


def test_slides_that_give_nothing_are_named(tmp_path):
    patients = (("p1", "train"), ("p2", "val"), ("p3", "test"), ("p4", "train"))
    cohort = write_cohort(tmp_path, patients)
    Image.fromarray(np.full((SIDE, SIDE, 3), 255, np.uint8)).save(cohort.section("p1_SR").path)
    own = own_shapes(cohort)
    del own["p4_PAS"]
    notes = {
        (note["slide"], note["kind"]): note["reason"] for note in build(cohort, tmp_path / "p", own=own).meta["notes"]
    }
    assert "no tissue" in notes["p1_SR", "all"] and "without annotations" in notes["p4_PAS", "labelled"]


def test_what_cannot_be_trained_on_is_refused(cohort, tmp_path):
    with pytest.raises(AnnotationError, match="Did you mean 'glomerulus'"):
        build(cohort, tmp_path / "p", task=TaskConfig(classes=("glomerulis",)))
    own = own_shapes(cohort)
    del own["p2_PAS"]
    with pytest.raises(AnnotationError, match=r"no labelled val patch.*p2_PAS"):
        build(cohort, tmp_path / "p", own=own)
    twice = Cohort((*cohort, replace(cohort.section("p1_PAS"), slide="x", path=Path("x"), split="test")))
    with pytest.raises(LeakError):
        build(twice, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_no_store_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(StaindaError, match="Cut the patches first"):
        PatchStore.open(tmp_path / "none")


READER = """
import sys, time
import numpy as np
from stainda.patches import PatchStore
store = PatchStore.open(sys.argv[1])
generator = np.random.default_rng(0)
start = time.process_time()
total = sum(int(store.images[generator.permutation(len(store))[:16]].sum()) for _ in range(300))
assert not {"torch", "openslide", "geopandas"} & set(sys.modules)
print(total, 300 * 16 / (time.process_time() - start))
"""


def test_several_processes_read_it_at_memory_speed(store):
    assert isinstance(store.images, np.memmap) and not store.images.flags.writeable
    assert len(pickle.dumps(store)) < 1000  # processes share the file, not a copy
    command = [sys.executable, "-c", READER, str(store.folder)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    results = [reader.communicate()[0].split() for reader in readers]
    assert results[0][0] == results[1][0]
    assert all(float(speed) > 10_000 for _, speed in results)  # patches per second of CPU


def test_objects_are_not_cut_by_mpp_rounding(tmp_path):
    cohort = write_cohort(tmp_path, mpp=MPP * 0.97)
    store = build(cohort, tmp_path / "p")
    row = store.table.iloc[0]
    assert row.downsample == pytest.approx(1 / (MPP * 0.97))
    expected = expected_labels(row.x, row.y, 32, row.downsample)
    assert (store.labels("own")[0] == expected).mean() > 0.98


def test_weights_are_the_confidence_near_objects_and_one_elsewhere(cohort, tmp_path):
    shapes = propagated_shapes(cohort)
    for table in shapes.values():
        table["confidence"] = [0.9, 0.6, 0.7, 0.8]
    store = build(cohort, tmp_path / "weighted", propagated=shapes, min_confidence=0.65, weights=True)
    weights = store.weights
    plain = build(cohort, tmp_path / "plain", propagated=shapes, min_confidence=0.65)
    assert plain.weights is None and plain.key != store.key
    carried = np.flatnonzero(store.has_labels("propagated"))
    assert len(carried) and (weights[np.flatnonzero(store.has_labels("own"))] == 255).all()
    seen = set()
    for index in carried:
        labels = store.labels("propagated")[index]
        for value, confidences in ((1, {0.9, 0.7}), (2, {0.8})):
            found = set(np.unique(weights[index][labels == value]).tolist())
            assert found <= {round(255 * confidence) for confidence in confidences}
            seen |= found
        row = store.table.iloc[index]
        middle = (np.arange(CONFIG.size) + 0.5) * row["downsample"]
        xs, ys = np.meshgrid(row["x"] + middle, row["y"] + middle)
        near = np.zeros(xs.shape, bool)
        for x0, y0, x1, y1 in RECTANGLES:
            near |= (xs > x0 + 4 - 40) & (xs < x1 + 4 + 40) & (ys > y0 - 40) & (ys < y1 + 40)
        assert (weights[index][~near] == 255).all()
        halo = (labels == 0) & (weights[index] < 255)
        assert not halo.any() or near[halo].all()
    assert seen == {round(255 * one) for one in (0.9, 0.7, 0.8)}


def test_what_a_wrong_pixel_size_causes_names_the_column(tmp_path):
    """One slide is 480 pixels wide: at 0.01 µm a patch is wider than it, at 5 µm its pixels are enlarged."""
    for name in ("tiny", "large"):
        (tmp_path / name).mkdir()
    grid = CONFIG.model_copy(update={"grid": True, "stride": 32, "min_tissue": 0.9})
    tiny = write_cohort(tmp_path / "tiny", mpp=0.01)
    with pytest.raises(AnnotationError, match=r"no place for a patch of 3200 level-0 pixels.*column mpp"):
        build(tiny, tmp_path / "p", config=grid)
    large = write_cohort(tmp_path / "large", mpp=5.0)
    store = build(large, tmp_path / "p")
    reasons = [note["reason"] for note in store.meta["notes"] if note["kind"] == "all"]
    assert reasons and all("enlarged 5.0 times" in reason and "column mpp" in reason for reason in reasons)


def test_patches_around_objects_have_a_limit_and_a_rare_class_stays(cohort, store, tmp_path):
    limited = build(cohort, tmp_path / "patches", CONFIG.model_copy(update={"max_per_slide": 6}))
    labelled = limited.table[limited.table["kind"] == "labelled"]
    around = labelled[labelled["around"] == "object"]
    assert (around.groupby("slide").size() <= 6).all()
    assert (around.groupby("slide")["px_vessel"].max() > 0).all()  # one object of four, and drawn from each in turn
    assert (labelled[labelled["around"] != "object"].groupby("slide").size() <= 6).all()
    unlabelled = limited.table[limited.table["kind"] == "unlabelled"].groupby("slide").size()
    assert (unlabelled <= 12).all()  # as many as a source slide gives
    assert any("annotated objects, drawn at random (train" in note["reason"] for note in limited.meta["notes"])
    again = build(cohort, tmp_path / "again", CONFIG.model_copy(update={"max_per_slide": 6}))
    assert again.table.equals(limited.table)
    unlimited = build(cohort, tmp_path / "unlimited", CONFIG.model_copy(update={"max_per_slide": 10_000}))
    assert unlimited.table.equals(store.table)  # nothing is drawn where all fit


def test_patches_do_not_depend_on_whether_the_manifest_repeats_the_pixel_size_of_the_file(tmp_path):
    """Objects larger than a patch count as several, wherever the size of a patch is known from."""
    cohort = write_cohort(tmp_path)
    for section in cohort:
        resolution = (1e4 / MPP, 1e4 / MPP)
        image = np.asarray(Image.open(section.path))
        tifffile.imwrite(section.path.with_suffix(".tif"), image, resolution=resolution, resolutionunit="CENTIMETER")
    given = replace(cohort, sections=tuple(replace(row, path=row.path.with_suffix(".tif")) for row in cohort))
    silent = replace(given, sections=tuple(replace(section, mpp=None) for section in given))
    small = CONFIG.model_copy(update={"size": 16})
    stores = [build(of, tmp_path / str(number), small) for number, of in enumerate((given, silent))]
    rows = [store.table[store.table["kind"] == "unlabelled"].groupby("slide").size() for store in stores]
    areas = [(x1 - x0) * (y1 - y0) / 32**2 for x0, y0, x1, y1 in RECTANGLES]
    assert set(rows[0]) == {2 * 3 * sum(map(math.ceil, areas))} == {78}
    assert stores[0].key == stores[1].key and stores[0].table.equals(stores[1].table)


def test_the_limit_holds_for_an_object_that_covers_the_slide(cohort, tmp_path):
    """A large region gives as many patches as it covers, and no more than the limit; small objects next to it stay."""
    own = own_shapes(cohort)
    for slide, table in own.items():
        whole = make_shapes([shapely.box(30, 30, 450, 450)], ["glomerulus"])
        own[slide] = gpd.GeoDataFrame(pd.concat([whole, table[table["class"] == "vessel"]], ignore_index=True))
    free = build(cohort, tmp_path / "free", own=own).table
    around = (free["around"] == "object") & (free["kind"] == "labelled")
    assert (free[around].groupby("slide").size() > 60).all()
    limited = build(cohort, tmp_path / "limited", CONFIG.model_copy(update={"max_per_slide": 20}), own=own).table
    around = (limited["around"] == "object") & (limited["kind"] == "labelled")
    assert (limited[around].groupby("slide").size() == 20).all()
    assert (limited[around].groupby("slide")["px_vessel"].max() > 0).all()


def test_some_are_drawn_from_each_class_in_turn():
    classes = [0] * 90 + [1] * 6 + [2] * 4
    kept = drawn_in_turn(classes, 20, np.random.default_rng(3))
    assert np.bincount(np.asarray(classes)[kept]).tolist() == [10, 6, 4] and (np.diff(kept) > 0).all()
    assert drawn_in_turn(classes, 100, np.random.default_rng(3)).tolist() == list(range(100))
    assert not len(drawn_in_turn([], 10, np.random.default_rng(3)))
