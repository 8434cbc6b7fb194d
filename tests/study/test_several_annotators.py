"""A cohort with several annotators per slide and class names of their own: what the run directory says of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from small_cohorts import STUDY, make_blob_cohort

from stainda.annotations import IGNORE, read_shapes, write_geojson
from stainda.annotations.formats import write_annotations
from stainda.annotations.formats.frame import PlainFrame
from stainda.cohort import Roles, inspect_manifest, read_manifest, write_manifest
from stainda.errors import ConfigError
from stainda.patches import PatchStore, TrainingData
from stainda.patches.crowd import Crowd
from stainda.run_directory.folder import read_study
from stainda.study import run_study
from stainda.study.keys import SeenData

CLASSES = "classes: {Glom: glomerulus, Artefact: ignore, Tubule: drop}\n"


@pytest.fixture
def cohort(tmp_path) -> Path:
    """P0_PAS has three annotators (alice, bob with his own class names in ASAP XML, carol), all else one."""
    manifest = make_blob_cohort(tmp_path / "cohort", patients=5)
    folder = manifest.parent
    own = read_shapes(folder / "P0_PAS.geojson")
    bob = own.copy()
    bob["class"] = ["Glom", "Glom", "Glom", "Artefact"]
    write_annotations(bob, folder / "P0_PAS_bob.xml", "asap")
    carol = own[:3].copy()
    carol.loc[2, "geometry"] = shapely.box(330, 330, 360, 360)
    carol.loc[1, "class"] = "vessel"
    write_geojson(carol.reset_index(drop=True), folder / "P0_PAS_carol.geojson")
    text = manifest.read_text().replace("P0_PAS.geojson", "P0_PAS.geojson; P0_PAS_bob.xml;P0_PAS_carol.geojson")
    manifest.write_text(text)
    return manifest


def gathered(cohort: Path, extra: str = CLASSES, **overrides: str) -> Path:
    study = cohort.parent / "study.yaml"
    study.write_text(STUDY.format(manifest=cohort) + extra)
    changes = [f"{key}={value}" for key, value in overrides.items()]
    return run_study(study, cohort.parent / "run", until="cohort", overrides=["workers=1", *changes])


def test_a_manifest_names_several_files_for_one_slide(cohort, tmp_path):
    found = read_manifest(cohort)
    section = found.section("P0_PAS")
    assert [path.name for path in section.annotation_files] == [
        "P0_PAS.geojson", "P0_PAS_bob.xml", "P0_PAS_carol.geojson",
    ]  # fmt: skip
    assert len(found.section("P1_PAS").annotation_files) == 1
    again = read_manifest(write_manifest(found, cohort.parent / "again.csv"))
    assert [section.annotation_files for section in again] == [one.annotation_files for one in found]


@pytest.mark.parametrize(
    ("cell", "reason"), [("P0_PAS.geojson;none.xml", "missing.*none.xml"), ("P0_SR.geojson;P0_SR.geojson", "twice")]
)
def test_faults_of_several_files_name_their_row(cohort, cell, reason):
    cohort.write_text(cohort.read_text().replace(",P0_SR.geojson,", f",{cell},"))
    [fault] = inspect_manifest(cohort).faults
    assert fault.row == 3 and pd.Series([str(fault)]).str.contains(reason).all()


def test_a_file_whose_name_holds_a_semicolon_is_one_file(cohort):
    folder = cohort.parent
    (folder / "a;b.geojson").write_bytes((folder / "P0_SR.geojson").read_bytes())
    cohort.write_text(cohort.read_text().replace(",P0_SR.geojson,", ",a;b.geojson,"))
    assert [annotation_file.name for annotation_file in read_manifest(cohort).section("P0_SR").annotation_files] == [
        "a;b.geojson"
    ]


@pytest.mark.parametrize(("method", "objects"), [("majority", 3), ("staple", 4)])
def test_several_annotators_become_one_and_the_dissent_is_kept(cohort, method, objects):
    run = gathered(cohort, CLASSES + f"fusion: {{method: {method}}}\n")
    fused = read_shapes(run / "annotations/own/P0_PAS.geojson")
    # object 0 by all three, 1 and 2 by two of them; 3 only by the first, where the second is silent and the third not
    # STAPLE believes the first there as well, who was right everywhere else
    assert (fused["class"] == "glomerulus").sum() == objects
    dissent = read_shapes(run / "annotations/dissent/P0_PAS.geojson")
    told = {(row["class"], row["properties"]["metadata"]["drawn_by"]) for row in dissent.to_dict("records")}
    expected = {("glomerulus", "P0_PAS"), ("glomerulus", "carol"), ("vessel", "carol"), (IGNORE, "bob")}
    assert told == (expected if objects == 3 else expected - {("glomerulus", "P0_PAS")})
    assert [path.name for path in (run / "annotations/dissent").iterdir()] == ["P0_PAS.geojson"]
    table = pd.read_csv(run / "annotations/annotators.csv")
    assert (table["slide"] == "P0_PAS").all() and table["annotator"].nunique() == 3
    assert table.loc[table["class"] == "glomerulus", "sensitivity"].between(0, 1).all()
    assert len(pd.read_csv(run / "annotations/annotator_agreement.csv")) == 3 * 4
    row = pd.read_csv(run / "cohort.csv").set_index("slide").loc["P0_PAS"]
    assert row["annotations"].count(";") == 2 and row["n_shapes"] == len(fused)


def test_classes_are_mapped_and_counted(cohort):
    run = gathered(cohort)
    table = pd.read_csv(run / "annotations/classes.csv", keep_default_na=False)
    bob = table[(table["slide"] == "P0_PAS") & (table["class"].isin(["Glom", "Artefact"]))]
    assert bob.set_index("class")["becomes"].to_dict() == {"Glom": "glomerulus", "Artefact": IGNORE}
    assert bob.set_index("class")["shapes"].to_dict() == {"Glom": 3, "Artefact": 1}
    assert table.loc[table["class"] == "vessel", "what"].tolist() == ["unknown"]
    assert (table.loc[table["class"] == "glomerulus", "what"] == "kept").all()


def test_unknown_classes_can_be_refused(cohort):
    with pytest.raises(ConfigError, match=r"'unknown_classes: error' refuses: vessel \(1 shapes\).*Name under"):
        gathered(cohort, CLASSES + "unknown_classes: error\n")


def test_a_table_of_classes_may_be_a_file_beside_the_study_and_differ_by_centre(cohort):
    rows = "from,to,centre\nGlom,glomerulus,A\nArtefact,drop,A\nArtefact,ignore,B\nvessel,ignore,\n"
    (cohort.parent / "classes.csv").write_text(rows)
    run = gathered(cohort, "classes: classes.csv\nunknown_classes: error\n")
    table = pd.read_csv(run / "annotations/classes.csv", keep_default_na=False).set_index("class")
    assert (table.loc["Artefact", "what"], table.loc["vessel", "becomes"]) == ("dropped", IGNORE)


def test_a_class_mapped_to_ignore_is_ignored_in_the_patches(cohort):
    path = cohort.parent / "P1_PAS.geojson"
    shapes = read_shapes(path)
    x, y = shapes.centroid.iloc[0].coords[0]
    shapes.loc[0, "class"] = "Artefact"
    write_geojson(shapes, path)
    splits = {"P0": "val", "P1": "train", "P2": "train", "P3": "test", "P4": "test"}
    header, *rows = cohort.read_text().splitlines()
    cohort.write_text("\n".join([header, *(row + splits[row[:2]] for row in rows), ""]))
    study = cohort.parent / "study.yaml"
    study.write_text(STUDY.format(manifest=cohort) + CLASSES)
    run = run_study(study, cohort.parent / "run", until="patches", overrides=["workers=1", "patches.grid=true"])
    store = PatchStore.open(run / "patches")
    labels = store.labels("own")
    found = []
    for index, row in store.table[(store.table["slide"] == "P1_PAS") & (store.table["kind"] == "labelled")].iterrows():
        column, line = (int((at - row[axis]) / row["downsample"]) for at, axis in ((x, "x"), (y, "y")))
        if 0 <= column < 32 and 0 <= line < 32:
            found.append(labels[index, line, column])
    assert found and set(found) == {255}


def test_propagating_without_a_study_reads_formats_that_need_the_slide(cohort):
    """Masks, Cytomine and the like cannot be placed without the slide's size."""
    from stainda.config import PropagationConfig, RegistrationConfig
    from stainda.study.steps import propagate_manifest, register_manifest

    folder = cohort.parent
    own = read_shapes(folder / "P1_PAS.geojson")
    write_annotations(own, folder / "P1_PAS.json", "cytomine", PlainFrame((384, 384), folder / "P1_PAS.png"))
    cohort.write_text(cohort.read_text().replace("P1_PAS.geojson", "P1_PAS.json"))
    out = folder / "steps"
    register_manifest(cohort, out, RegistrationConfig(method="identity"), workers=1)
    table = propagate_manifest(cohort, out, PropagationConfig(sources=("PAS",)))
    carried = read_shapes(out / "annotations/propagated/P1_SR.geojson")
    assert len(carried) == 4 and set(table["target"]) == {f"P{i}_SR" for i in range(5)}
    assert sorted(carried.centroid.y) == pytest.approx(sorted(own.centroid.y), abs=1), "y counts from the top"
    assert json.loads((out / "annotations/dissent/P0_PAS.geojson").read_text())["features"]


CROWD = """
strategies:
  - source_only
  - {from: source_only, name: majority, title: majority, labels: {name: annotators}}
  - {from: source_only, name: staple, title: STAPLE, labels: {name: annotators, method: staple}}
  - {from: aggnet, name: two, title: AggNet of two, labels: {name: annotators, count: 2}}
"""


def test_answers_are_kept_side_by_side_for_strategies_that_learn_from_all(cohort):
    splits = {"P0": "train", "P1": "val", "P2": "train", "P3": "test", "P4": "test"}
    header, *rows = cohort.read_text().splitlines()
    cohort.write_text("\n".join([header, *(row + splits[row[:2]] for row in rows), ""]))
    study = cohort.parent / "study.yaml"
    text = STUDY.format(manifest=cohort)
    study.write_text(text[: text.index("strategies:")] + CLASSES + CROWD)
    run = run_study(study, cohort.parent / "run", until="patches", overrides=["workers=1"])
    names = ("P0_PAS", "bob", "carol")
    assert sorted(path.stem for path in (run / "annotations/drawn/P0_PAS").iterdir()) == list(names)
    store, config = PatchStore.open(run / "patches"), read_study(run)
    assert store.annotators == names
    roles = Roles(("PAS@A",), ("SR@A",), visible="targets")
    data = TrainingData(store, roles, crowd=Crowd("majority"))
    train = data.labelled("train")
    seen = (store.table["slide"] == "P0_PAS").to_numpy()[train]
    votes, labels, own = data.votes(train), data.labels(train), store.labels("own")[train]
    assert (votes[:, ~seen] == 255).all() and seen.any() and not seen.all()
    np.testing.assert_array_equal(labels[~seen], own[~seen])
    yes, no = ((votes == answer).sum(0) for answer in (1, 0))
    spoken = (yes != no) & seen[:, None, None]
    np.testing.assert_array_equal(labels[spoken], (yes > no)[spoken])
    assert (labels[(yes == no) & seen[:, None, None]] == 255).all()
    keys = SeenData(run / "patches", roles)
    source, majority, staple, two = (keys.key(strategy, seed=1) for strategy in config.strategies)
    assert source not in (majority, staple, two)
    assert two not in (majority, staple), "majority and STAPLE may give the same labels, two of three not"
    assert PatchStore.open(run / "patches").key == store.key


def test_a_crowd_of_one_is_refused_by_name(cohort):
    study = cohort.parent / "study.yaml"
    text = STUDY.format(manifest=cohort)
    study.write_text(text[: text.index("strategies:")] + CLASSES + CROWD)
    cohort.write_text(cohort.read_text().replace("; P0_PAS_bob.xml;P0_PAS_carol.geojson", ""))
    run = run_study(study, cohort.parent / "run", until="patches", overrides=["workers=1"])
    with pytest.raises(ConfigError, match="2 annotators are to teach, and the training slides of the sources have 0"):
        TrainingData(PatchStore.open(run / "patches"), Roles(("PAS@A",), ("SR@A",)), crowd=Crowd("majority"))
