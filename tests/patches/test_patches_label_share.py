"""A share of the labels: nested, by patient, and what was not annotated counts neither way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import shapely.affinity
from patch_cohort import CONFIG, ROLES, TASK, expected_labels, own_shapes, propagated_shapes, rectangles, write_cohort

from stainda.errors import LeakError, StaindaError
from stainda.patches import TrainingData, build_store
from stainda.patches.label_objects import LabelObjects, write_label_objects
from stainda.patches.label_share import RIM, ChosenLabels, KnownLabels, LabelShare, nested_order

PATIENTS = (("p1", "train"), ("p2", "val"), ("p3", "test"), ("p4", "train"), ("p5", "train"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    cohort = write_cohort(folder, PATIENTS)
    shapes = {"own": own_shapes(cohort), "propagated": propagated_shapes(cohort)}
    store = build_store(cohort, ROLES, CONFIG, TASK, shapes, folder / "patches", seed=1)
    with pytest.raises(StaindaError, match="annotated objects"):
        TrainingData(store, ROLES, share=LabelShare(0.5, 1))
    members = {
        (slide, there): (f"{slide.replace('SR', 'PAS')}\t{here}",)
        for slide, table in shapes["propagated"].items()
        for there, here in zip(table["id"], rectangles()["id"], strict=True)
    }
    return store, write_label_objects(store, cohort, ROLES, TASK, shapes, members)


def test_shares_are_nested_seeded_and_by_patient():
    table = pd.DataFrame({"patient": ["a"] * 40 + ["b"] * 10 + ["c"] * 3})
    order = nested_order(table, ("patient",), 3)
    assert sorted(order) == list(range(53)) and (order == nested_order(table, ("patient",), 3)).all()
    assert (order != nested_order(table, ("patient",), 4)).any()
    for count in range(1, 54):
        first = table.iloc[order[:count]]["patient"].value_counts()
        for patient, n in (("a", 40), ("b", 10), ("c", 3)):
            assert abs(first.get(patient, 0) - n * count / 53) <= 2, (count, patient)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_only_objects_of_the_sources_training_patients_are_drawn(made, seed):
    _, objects = made
    drawn = {share: set(np.flatnonzero(LabelShare(share, seed).choose(objects))) for share in (0.01, 0.3, 0.7, 1.0)}
    assert drawn[0.01] < drawn[0.3] < drawn[0.7] < drawn[1.0]
    everything = objects.table.iloc[sorted(drawn[1.0])]
    assert set(everything["patient"]) == {"p1", "p4", "p5"} and set(everything["kind"]) == {"own"}
    assert len(everything) == 12 and set(everything["domain"]) == {"PAS@A"}
    least = objects.table.iloc[sorted(drawn[0.01])]
    assert sorted(least["class"]) == ["glomerulus", "vessel"]  # one of each class, however small the share
    some = objects.table.iloc[sorted(drawn[0.7])]["patient"].value_counts()
    assert len(some) == 3 and some.max() - some.min() <= 2
    without = objects.table.iloc[np.flatnonzero(LabelShare(1.0, seed).choose(objects, gone="p4"))]
    assert set(without["patient"]) == {"p1", "p5"}
    refit = objects.table.iloc[np.flatnonzero(LabelShare(1.0, seed).choose(objects, refit=True))]
    assert set(refit["patient"]) == {"p1", "p2", "p4", "p5"}


@pytest.mark.parametrize("rule", ["source", "propagated"])
def test_what_is_not_annotated_is_ignored_and_not_background(made, rule):
    """Pixel by pixel: annotated objects are their class, others and their rim 255, the rest background."""
    store, objects = made
    data = TrainingData(store, ROLES, rule, share=LabelShare(0.4, 1))
    everything = TrainingData(store, ROLES, rule)
    rows = data.labelled("train")
    assert 0 < len(rows) < len(everything.labelled("train")) and set(rows) < set(everything.labelled("train"))
    chosen = {objects.names[i] for i in np.flatnonzero(LabelShare(0.4, 1).choose(objects))}
    learned, hidden = 0, 0
    for row in rows:
        about = store.table.iloc[row]
        offset = 4 if about["kind"] == "propagated" else 0
        plain = expected_labels(about["x"], about["y"], CONFIG.size, about["downsample"], offset)
        labels = data.labels([row])[0]
        centres = (np.arange(CONFIG.size) + 0.5) * about["downsample"]
        points = shapely.points(*np.meshgrid(about["x"] + centres, about["y"] + centres))
        known, unknown = np.zeros_like(plain, bool), np.zeros_like(plain, bool)
        source = about["slide"].replace("SR", "PAS")
        shapes = zip(rectangles()["id"], rectangles(offset).geometry.values, strict=True)
        for identity, shape in shapes:
            if f"{source}\t{identity}" in chosen:
                known |= shapely.contains(shape, points)
            else:
                unknown |= shapely.contains(shape.buffer(RIM * np.sqrt(shape.area / np.pi)), points)
        wanted = np.where(unknown & ~known, 255, plain)
        assert (labels == wanted).all(), row
        learned, hidden = learned + int((labels == 1).sum()), hidden + int((labels == 255).sum())
    assert learned and hidden
    outside = np.setdiff1d(everything.labelled("train"), rows)
    with pytest.raises(LeakError):
        data.labels(outside[:1])


def test_patches_that_show_only_what_nobody_annotated_are_left_out_and_validation_is_whole(made):
    store, objects = made
    share = LabelShare(0.1, 2)
    data = TrainingData(store, ROLES, share=share)
    plain = TrainingData(store, ROLES)
    assert (data.labelled("val") == plain.labelled("val")).all()
    assert (data.labels(data.labelled("val")) == plain.labels(plain.labelled("val"))).all()
    assert (data.labels(data.labelled("val")) != 255).all()
    n_objects = store.table["n_objects"].to_numpy(float)
    used = data.labelled("train")
    assert all(((data.labels([row]) > 0) & (data.labels([row]) < 255)).any() for row in used if n_objects[row])
    empty = (n_objects[used] == 0).sum()
    all_empty = (n_objects[plain.labelled("train")] == 0).sum()
    assert empty == data.annotated.empty == int(np.ceil(0.1 * all_empty))
    assert (data.annotated.objects, data.annotated.of) == (int(share.choose(objects).sum()), 12)
    assert plain.annotated is None


def test_margins_hide_what_reaches_into_them(made):
    """A window that shows the margin shows nothing of an object that nobody annotated."""
    store, objects = made
    data = TrainingData(store, ROLES, share=LabelShare(0.1, 1))
    side = CONFIG.size + 2 * store.margin
    known = LabelShare(0.1, 1).choose(objects)
    for row in data.labelled("train"):
        about = store.table.iloc[row]
        corner = np.array([about["x"], about["y"]]) - store.margin * about["downsample"]
        labels = data.labels([row], np.array([[0, 0, side]]))[0]
        for shape, seen, slide in zip(objects.shapes, known, objects.table["slide"], strict=True):
            if slide != about["slide"] or seen:
                continue
            at = np.array(shape.representative_point().coords[0])
            column, line = ((at - corner) / about["downsample"] / side * CONFIG.size).astype(int)
            if 0 <= column < CONFIG.size and 0 <= line < CONFIG.size:
                assert labels[line, column] == 255


def test_the_key_follows_the_share_alone(made):
    store, _ = made
    plain = TrainingData(store, ROLES).key
    keys = {TrainingData(store, ROLES, share=LabelShare(share, seed)).key for share in (0.1, 0.5) for seed in (1, 2)}
    assert len(keys) == 4 and plain not in keys
    assert TrainingData(store, ROLES).key == plain
    assert TrainingData(store, ROLES, share=LabelShare(0.1, 1)).key in keys


def test_the_content_follows_outlines_and_what_is_annotated(made):
    """What names a training changes with whatever its labels are painted from, and with nothing else."""
    store, objects = made
    train = ((store.table["kind"] == "labelled") & (store.table["split"] == "train")).to_numpy(bool)

    def known(shapes=objects.shapes, seed=1):
        return KnownLabels(store, LabelObjects(objects.table, shapes), LabelShare(0.5, seed), train)

    rows = np.flatnonzero(known().usable)
    plain = known().content(rows)
    assert plain == known().content(rows)
    assert plain != known(seed=2).content(rows)
    of_source = int(np.flatnonzero(objects.of_kind("own") & (objects.table["slide"] == "p1_PAS"))[0])
    moved, elsewhere = objects.shapes.copy(), objects.shapes.copy()
    moved[of_source] = shapely.affinity.translate(moved[of_source], 1.0)
    assert plain != known(moved).content(rows)
    of_validation = int(np.flatnonzero(objects.table["slide"] == "p2_PAS")[0])
    elsewhere[of_validation] = shapely.affinity.translate(elsewhere[of_validation], 1.0)
    assert plain == known(elsewhere).content(rows)
    assert known().content(rows[:0]) == known(moved).content(rows[:0])


def test_chosen_objects_are_used_and_no_others(made):
    store, objects = made
    one = next(name for name, slide in zip(objects.names, objects.table["slide"], strict=True) if slide == "p4_PAS")
    data = TrainingData(store, ROLES, share=ChosenLabels(frozenset([one]), empty=3))
    rows = store.table.iloc[data.labelled("train")]
    assert set(rows[rows["n_objects"] > 0]["slide"]) == {"p4_PAS"} and (rows["n_objects"] == 0).sum() == 3
    assert data.annotated.objects == 1 and LabelObjects.open(store).names == objects.names
