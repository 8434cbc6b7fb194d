"""Commands that take a study or a manifest, and what is there afterwards."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from small_cohorts import make_blob_cohort, write_study

from stainda.errors import StaindaError
from stainda.review.data import ReviewData
from stainda.study.inputs import is_study
from stainda.study.steps import propagate, register
from stainda.study.tables import read_quality

IDENTITY = {"method": "identity"}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_blob_cohort(tmp_path_factory.mktemp("blobs"))


def test_a_manifest_that_was_registered_and_propagated_can_be_reviewed(cohort, tmp_path):
    register(cohort, tmp_path / "run", IDENTITY, workers=1)
    root, table = propagate(cohort, tmp_path / "run", {"sources": ("PAS",), "classes": ("Glomeruli",)})
    assert set(table["class"]) == {"glomerulus"}, "the class is found in any case and number"
    data = ReviewData(root)
    assert {object_.target for object_ in data.objects.values()} == {f"P{n}_SR" for n in range(5)}
    assert all(object_.trains for object_ in data.objects.values()), "no study says yet that some do not"
    rows = pd.read_csv(root / "cohort.csv")
    assert set(rows["role"]) == {"source", "target"} and (rows["width"] == 384).all() and (rows["mpp"] == 2).all()


def test_a_study_is_registered_and_propagated_with_its_own_settings(cohort, tmp_path):
    study = write_study(cohort, tmp_path / "blobs.yaml")
    root, quality = register(study, tmp_path / "run", {"reference": "first"}, workers=1)
    assert len(quality) == 5 and "reference: first" in (root / "study.yaml").read_text()
    assert not (root / "annotations" / "propagation.csv").exists()
    root, table = propagate(study, tmp_path / "run", {"classes": ("glomerulus",)})
    assert len(table) and {section.role for section in ReviewData(root).sections} == {"source", "target"}


def test_the_run_directory_of_a_study_is_named_after_it(cohort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, _ = register(write_study(cohort, tmp_path / "any.yaml"), workers=1)
    assert root.resolve() == (tmp_path / "runs" / "blobs").resolve()


def test_paths_of_settings_start_from_the_working_directory_for_a_study_too(cohort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    study = write_study(cohort, tmp_path / "studies" / "any.yaml")
    register(study, "first", workers=1)
    root, quality = register(study, Path("second"), {"from_run": Path("first")}, workers=1)
    assert (quality["status"] == "registered").all()
    taken = json.loads((root / "registration" / "inputs.json").read_text())
    assert {one["from"] for one in taken.values()} == {str(tmp_path / "first")}
    with pytest.raises(StaindaError, match=re.escape(str(tmp_path / "no.csv"))):
        register(study, "third", {"imports": "no.csv"}, workers=1)


def test_blocks_that_look_like_numbers_keep_their_names(cohort, tmp_path):
    text = cohort.read_text()
    for patient in range(5):
        text = text.replace(f",P{patient},1,", f",00{patient},1,").replace(f",P{patient},2,", f",00{patient},2,")
    manifest = cohort.with_name("numbers.csv")
    manifest.write_text(text)
    register(manifest, tmp_path / "run", IDENTITY, workers=1)
    assert read_quality(tmp_path / "run")["block"].tolist() == [f"00{patient}" for patient in range(5)]
    _, table = propagate(manifest, tmp_path / "run")
    assert set(table["block"]) == {f"00{patient}" for patient in range(5)}


def test_what_is_missing_is_told(cohort, tmp_path):
    with pytest.raises(StaindaError, match="--out runs/manifest"):
        register(cohort, None, IDENTITY)
    with pytest.raises(StaindaError, match=r"nothing is registered here.*stainda register"):
        propagate(cohort, tmp_path / "none")
    register(cohort, tmp_path / "run", IDENTITY, workers=1)
    with pytest.raises(StaindaError, match=r"class 'tubule'.*Known: glomerulus"):
        propagate(cohort, tmp_path / "run", {"classes": ("tubule",)})
    with pytest.raises(StaindaError, match="unknown key 'detectr'"):
        register(cohort, tmp_path / "run", {"detectr": "kaze"})


def test_neither_a_study_nor_a_manifest(cohort, tmp_path):
    assert not is_study(cohort) and is_study(write_study(cohort, tmp_path / "a.yaml"))
    (tmp_path / "sheet.xlsx").write_bytes(b"PK")
    for path, said in ((tmp_path, "a folder"), (tmp_path / "sheet.xlsx", ".xlsx"), (tmp_path / "no.csv", "no such")):
        with pytest.raises(StaindaError, match=said):
            is_study(path)
