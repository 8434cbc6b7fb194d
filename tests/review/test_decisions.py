"""A review decides over the labels of the next run, and only while it speaks of what is propagated."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import shapely
from declared_files import faults_of_run
from reviewed_runs import make_run

from stainda.annotations import make_shapes, read_shapes, write_geojson
from stainda.errors import AnnotationError, RecordError, StaindaError
from stainda.files import write_csv
from stainda.patches.store import PatchStore
from stainda.registration.training_shapes import training_shapes
from stainda.review import decisions
from stainda.review.data import ReviewData
from stainda.review.decisions import (
    Decision,
    applied_keys,
    apply_decisions,
    read_decisions,
    shape_hash,
    write_decisions,
)
from stainda.study import run_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run up to its patches: study file and run directory. Copy it before changing it."""
    return make_run(tmp_path_factory.mktemp("finished"), until="patches")


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished[1], tmp_path / "run")
    return tmp_path / "run"


def rows_of(run):
    with (run / "annotations" / "propagation.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def propagated(run, target):
    return read_shapes(run / "annotations" / "propagated" / f"{target}.geojson")


def own(run):
    return {path.stem: read_shapes(path) for path in (run / "annotations" / "own").glob("*.geojson")}


def training_target(run):
    """A target section whose labels reach training."""
    with (run / "cohort.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return next(row["slide"] for row in rows if row["role"] == "target" and row["split"] == "train")


def decide(run, target, index, kind, geometry=None, **changes):
    """A decision about the index-th object propagated to a target."""
    shape = propagated(run, target).iloc[index]
    source = own(run)[shape["source_slide"]]
    drawn = source[source["id"] == shape["id"]].iloc[0]
    made = Decision(
        shape["id"], shape["class"], target.split("_")[0], shape["source_slide"], target, kind,
        geometry if geometry is not None else shape["geometry"], shape["geometry"], float(shape["confidence"]),
        "Dr A", "2026-01-02T03:04:05Z", shape_hash(drawn["geometry"], drawn["class"]),
    )  # fmt: skip
    return replace(made, **changes)


def test_decisions_come_back_as_they_were_written(run):
    target = training_target(run)
    moved = shapely.affinity.translate(propagated(run, target).geometry.iloc[1], 3.25, -1.5)
    made = [decide(run, target, 0, "reject"), decide(run, target, 1, "nudge", moved, confidence=float("nan"))]
    write_decisions(run, made)
    back = read_decisions(run)
    assert set(back) == {one.key for one in made}
    for one in made:
        same = back[one.key]
        assert same.geometry.equals(one.geometry) and same.propagated.equals_exact(one.propagated, 1e-9)
        assert (same.kind, same.reviewer, same.time, same.source_hash) == (
            one.kind, one.reviewer, one.time, one.source_hash,
        )  # fmt: skip
    document = json.loads((run / "review" / "decisions.geojson").read_text())
    assert document["type"] == "FeatureCollection"  # what QuPath opens
    assert {feature["properties"]["classification"]["name"] for feature in document["features"]} == {"glomerulus"}


def test_each_kind_of_decision_does_to_the_propagated_shapes_what_it_says(run):
    target = training_target(run)
    before = propagated(run, target)
    moved = shapely.affinity.translate(before.geometry.iloc[2], 10, 5)
    write_decisions(
        run,
        [
            decide(run, target, 0, "accept"),
            decide(run, target, 1, "reject"),
            decide(run, target, 2, "nudge", moved),
            decide(run, target, 3, "unsure"),
        ],
    )
    report = apply_decisions(run, own(run))
    assert [row["status"] for row in report] == ["applied"] * 4
    after = propagated(run, target).set_index("id")
    ids = list(before["id"])
    assert after.loc[ids[0], "confidence"] == 1 and after.loc[ids[0], "geometry"].equals(before.geometry.iloc[0])
    assert ids[1] not in after.index
    assert after.loc[ids[2], "confidence"] == 1 and after.loc[ids[2], "geometry"].equals(moved)
    assert after.loc[ids[3], "class"] == "Ignore*"
    table = {row["id"]: row for row in rows_of(run) if row["target"] == target}
    assert [table[name]["status"] for name in ids] == ["kept", "dropped", "kept", "ignored"]
    assert table[ids[1]]["reason"] == "rejected by Dr A on 2026-01-02"
    assert table[ids[2]]["reason"].startswith("moved by Dr A on 2026-01-02")


def test_applying_twice_changes_nothing_more(run):
    target = training_target(run)
    write_decisions(run, [decide(run, target, i, kind) for i, kind in enumerate(("accept", "reject", "unsure"))])
    apply_decisions(run, own(run))
    files = [run / "annotations" / "propagation.csv", run / "annotations" / "propagated" / f"{target}.geojson"]
    once = [path.read_bytes() for path in files]
    report = apply_decisions(run, own(run))
    assert [path.read_bytes() for path in files] == once
    assert {row["status"] for row in report} == {"applied"}


def test_an_accepted_object_returns_though_a_gate_dropped_it(run):
    target = training_target(run)
    made = decide(run, target, 0, "accept")
    shapes = propagated(run, target)
    write_geojson(shapes.iloc[1:], run / "annotations" / "propagated" / f"{target}.geojson")
    write_decisions(run, [made])
    apply_decisions(run, own(run))
    after = propagated(run, target).set_index("id")
    assert after.loc[made.id, "geometry"].equals(made.geometry) and after.loc[made.id, "confidence"] == 1
    assert after.loc[made.id, "class"] == "glomerulus"


def test_shapes_of_other_sections_that_were_joined_into_an_object_share_its_fate(run):
    target = training_target(run)
    made = decide(run, target, 0, "reject")
    table = run / "annotations" / "propagation.csv"
    lines = rows_of(run)
    first = next(row for row in lines if row["target"] == target and row["id"] == made.id)
    other = {**first, "id": "other", "source": "another", "reason": f"joined with {made.id}"}
    write_csv(table, [*lines, other], list(first))
    write_decisions(run, [made])
    for _ in range(2):
        apply_decisions(run, own(run))
        row = next(row for row in rows_of(run) if row["id"] == "other")
        assert (row["status"], row["label"]) == ("dropped", "nothing")
        assert row["reason"] == f"joined with {made.id}; rejected by Dr A on 2026-01-02"


@pytest.mark.parametrize("earlier", [False, True], ids=["this version", "without object_source"])
def test_an_object_of_another_section_that_has_the_same_id_keeps_its_own_fate(run, earlier):
    target = training_target(run)
    made = decide(run, target, 0, "reject")
    lines = rows_of(run)
    first = next(row for row in lines if row["target"] == target and row["id"] == made.id)
    assert first["object_source"] == made.source
    namesake = {**first, "source": "another", "object_source": "another"}
    joined = {**first, "id": "mine", "source": "third"}
    others = {**first, "id": "theirs", "source": "third", "object_source": "another"}
    columns = [name for name in first if not (earlier and name == "object_source")]
    table = [{name: row[name] for name in columns} for row in (*lines, namesake, joined, others)]
    write_csv(run / "annotations" / "propagation.csv", table, columns)
    write_decisions(run, [made])
    apply_decisions(run, own(run))
    after = {(row["source"], row["id"]): row["status"] for row in rows_of(run) if row["target"] == target}
    assert after[(made.source, made.id)] == after[("third", "mine")] == "dropped"
    assert after[("another", made.id)] == first["status"]
    if not earlier:
        assert after[("third", "theirs")] == first["status"]


@pytest.mark.parametrize("stale", [False, True])
def test_an_accepted_object_is_trained_on_though_it_was_ignored_for_doubt(run, stale):
    target = training_target(run)
    shapes = propagated(run, target)
    shapes["confidence"] = [0.2, *[0.9] * (len(shapes) - 1)]
    path = run / "annotations" / "propagated" / f"{target}.geojson"
    write_geojson(shapes, path)
    doubt = make_shapes(
        [shapes.geometry.iloc[0].buffer(9)], "Ignore*", source_slide=[shapes["source_slide"].iloc[0]],
        properties=[{"metadata": {"of": shapes["id"].iloc[0]}}],
    )  # fmt: skip
    write_geojson(doubt, run / "annotations" / "ignored" / f"{target}.geojson")
    write_decisions(run, [decide(run, target, 0, "accept", **({"source_hash": "of yore"} if stale else {}))])
    apply_decisions(run, own(run))
    table = training_shapes(run, [target], 0.5, applied_keys(run))[target]
    first = table[table["id"] == shapes["id"].iloc[0]].iloc[0]
    assert first["confidence"] == (0.2 if stale else 1)
    assert (table["class"] == "Ignore*").sum() == (1 if stale else 0)


@pytest.mark.parametrize("change", ["moved", "renamed", "removed", "no file"])
def test_a_decision_on_a_source_annotation_changed_since_is_told_and_not_applied(run, change):
    target = training_target(run)
    made = decide(run, target, 0, "reject")
    write_decisions(run, [made])
    shapes = own(run)
    table = shapes[made.source]
    index = table.index[table["id"] == made.id][0]
    if change == "moved":
        geometries = list(table.geometry)
        geometries[index] = shapely.affinity.translate(geometries[index], 1, 0)
        shapes[made.source] = table.set_geometry(geometries)
    elif change == "renamed":
        table.loc[index, "class"] = "tubule"
    elif change == "removed":
        shapes[made.source] = table.drop(index)
    else:
        del shapes[made.source]
    before = [rows_of(run), (run / "annotations" / "propagated" / f"{target}.geojson").read_bytes()]
    report = apply_decisions(run, shapes)
    assert [(row["status"], bool(row["reason"])) for row in report] == [("stale", True)]
    assert [rows_of(run), (run / "annotations" / "propagated" / f"{target}.geojson").read_bytes()] == before
    assert "1 stale" in decisions.sentence(report, run)


def test_a_rejection_does_not_follow_an_outline_that_a_new_registration_propagates_elsewhere(run):
    target = training_target(run)
    elsewhere = shapely.affinity.translate(propagated(run, target).geometry.iloc[0], 60, 0)
    write_decisions(run, [decide(run, target, 0, "reject", elsewhere)])
    report = apply_decisions(run, own(run))
    assert report[0]["status"] == "stale" and "another place" in report[0]["reason"]


@pytest.mark.parametrize("kind", ["accept", "reject", "redraw"])
def test_what_was_decided_and_taken_back_shows_as_it_was_propagated(run, kind):
    """The run has applied the decision; the reviewer takes it back before the next one."""
    target = training_target(run)
    before = {item.place: (item, ReviewData(run).outline(item)) for item in ReviewData(run).objects.values()}
    made = decide(run, target, 0, kind, geometry=shapely.box(5, 5, 30, 30) if kind == "redraw" else None)
    write_decisions(run, [made])
    apply_decisions(run, own(run))
    changed = next(row for row in rows_of(run) if (row["target"], row["source"], row["id"]) == made.key)
    assert "Dr A" in changed["reason"]
    write_decisions(run, [])
    data = ReviewData(run)
    assert {item.place: item for item in data.objects.values()} == {place: item for place, (item, _) in before.items()}
    for item in data.objects.values():
        assert data.outline(item).equals(before[item.place][1])


def test_a_hash_of_a_shape_knows_moves_but_not_where_its_ring_begins():
    square = shapely.Polygon([(0, 0), (4, 0), (4, 4), (0, 4)])
    turned = shapely.Polygon([(4, 4), (0, 4), (0, 0), (4, 0)]).reverse()
    assert shape_hash(square, "a") == shape_hash(turned, "a")
    assert shape_hash(square, "a") != shape_hash(shapely.affinity.translate(square, 0.02, 0), "a")
    assert shape_hash(square, "a") != shape_hash(square, "b")


@pytest.mark.parametrize("text", ["{", '{"type":"FeatureCollection","features":[{"type":"Feature","geometry":'
                                  '{"type":"Point","coordinates":[1,2]},"properties":{}}]}'])  # fmt: skip
def test_a_file_of_decisions_that_was_spoilt_stops_the_run_with_its_name(run, text):
    (run / "review").mkdir()
    (run / "review" / "decisions.geojson").write_text(text)
    with pytest.raises(AnnotationError, match=r"decisions\.geojson"):
        apply_decisions(run, own(run))


def test_a_decision_changes_the_training_labels_of_the_next_run_and_its_removal_brings_them_back(finished, tmp_path):
    """The glomeruli of a training section are rejected: their pixels turn from object to background."""
    study, done = finished
    shutil.copytree(done, tmp_path / "run")
    run = tmp_path / "run"
    target = training_target(run)
    first = PatchStore.open(run / "patches")

    def labels(store):
        where = np.flatnonzero((store.table["slide"] == target) & (store.table["kind"] == "propagated"))
        return np.load(run / "patches" / "labels_propagated.npy")[where]

    assert (labels(first) == 1).any()
    write_decisions(run, [decide(run, target, i, "reject") for i in range(len(propagated(run, target)))])
    run_study(study, run, until="patches")
    second = PatchStore.open(run / "patches")
    assert second.meta["key"] != first.meta["key"]  # which the jobs' names depend on
    assert len(labels(second)) and (labels(second) == 0).all()
    assert faults_of_run(run) == [] and (run / "review" / "applied.csv").is_file()
    (run / "review" / "decisions.geojson").unlink()
    run_study(study, run, until="patches")
    assert PatchStore.open(run / "patches").meta["key"] == first.meta["key"]
    assert not (run / "review" / "applied.csv").exists()


@pytest.mark.parametrize(
    ("damage", "row"),
    [
        (lambda text: text + b"one,cell,more" + b"," * 40 + b"\n", "row {last}"),
        (lambda text: text.replace(b"status", b"Status", 1), "row 1"),
        (lambda text: text.replace(b"\n", b"\n\xfc", 1), "row 2"),
        (lambda text: text + b'"', "row {last}"),
    ],
    ids=["longer row", "column renamed", "Latin-1", "open quote"],
)
def test_a_table_that_a_spreadsheet_damaged_is_named_with_its_row(run, damage, row):
    target = training_target(run)
    write_decisions(run, [decide(run, target, 0, "reject")])
    apply_decisions(run, own(run))
    for table, use in (
        (run / "review" / "applied.csv", lambda: applied_keys(run)),
        (run / "annotations" / "propagation.csv", lambda: apply_decisions(run, own(run))),
    ):
        sound = table.read_bytes()
        table.write_bytes(damage(sound))
        place = row.format(last=sound.count(b"\n") + 1)
        with pytest.raises(RecordError, match=f"{table.name}, {place}: .*run 'stainda propagate'"):
            use()
        table.write_bytes(sound)


def test_a_confidence_that_is_no_number_is_named(run):
    rows = rows_of(run)
    for row in rows:
        row["confidence"] = "0,5"
    write_csv(run / "annotations" / "propagation.csv", rows, list(rows[0]))
    with pytest.raises(StaindaError, match=r"the confidence .0,5. of object .* is no number"):
        ReviewData(run)


def test_a_rejection_holds_where_the_outline_is_propagated_to_the_same_place_also_a_broken_one():
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])  # crosses itself, as a hand-drawn outline may
    square = shapely.box(0, 0, 10, 10)
    assert decisions._same_place(bow, square) and decisions._same_place(square, square)
    assert not decisions._same_place(square, shapely.box(6, 0, 16, 10))
    assert decisions._same_place(shapely.Point(1, 1), shapely.Point(1, 1))
    assert not decisions._same_place(shapely.Point(1, 1), shapely.Point(2, 1))
    assert not decisions._same_place(shapely.Point(1, 1), square)
