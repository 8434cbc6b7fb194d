"""A detector trained on PAS finds the structures, and they are propagated to the sections whose cells are counted."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from declared_files import faults_of_run
from small_cohorts import STUDY, make_blob_cohort, write_study
from typer.testing import CliRunner

from stainda.annotations import read_shapes
from stainda.cli.app import app
from stainda.config import load_study
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.errors import ConfigError, StaindaError
from stainda.run_directory import microenvironment_tables as tables
from stainda.study import run_study
from stainda.study.detections import check_cell_task
from stainda.study.microenvironment import measure

PATIENTS = 5
MICRO = """
microenvironment:
  stains: [SR]
  outlines: [detected]
  detected_on: [PAS]
  cells: files
  cell_files: cells
  rings_um: [30, 60]
  min_confidence: 0
  simulations: 19
  resamples: 100
  draws: 5
"""
LEARNING = [
    "protocol.seeds=1", "search.trials=1", "workers=1", "training.epochs=4", "training.steps_per_epoch=15",
    "patches.mpp=2.0", "patches.size=64", "task.min_object_um2=500",
]  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A manifest, and the cells of every SR section next to the study file: on a lattice, 15 pixels apart."""
    folder = tmp_path_factory.mktemp("detected")
    manifest = make_blob_cohort(folder / "cohort", patients=PATIENTS)
    (folder / "cells").mkdir()
    lattice = np.stack(np.meshgrid(*[np.arange(30, 355, 15)] * 2), -1).reshape(-1, 2)
    for patient in range(PATIENTS):
        pd.DataFrame(lattice, columns=["x", "y"]).to_csv(folder / "cells" / f"P{patient}_SR.csv", index=False)
    text = STUDY.replace("[source_only, adabn, dann, propagated_labels, oracle]", "[source_only]") + MICRO
    return folder, write_study(manifest, folder / "blobs.yaml", text)


@pytest.fixture(scope="module")
def run(cohort):
    folder, study = cohort
    return run_study(study, folder / "run", overrides=LEARNING)


def test_what_the_detector_finds_in_pas_is_measured_on_the_other_stain(run):
    folder = run / "microenvironment"
    structures = tables.STRUCTURES.read(folder)
    assert structures["source"].str.endswith("_PAS").all() and structures["slide"].str.endswith("_SR").all()
    drawn = {slide: read_shapes(run / "annotations" / "own" / f"{slide}.geojson") for slide in set(structures["slide"])}
    assert (structures["outline"] == "detected").all()
    hits = 0
    for row in structures.to_dict("records"):
        centres = np.array([one.coords[0] for one in drawn[row["slide"]].geometry.centroid])
        hits += np.linalg.norm(centres - [row["x"], row["y"]], axis=1).min() < 8
    assert hits >= 0.8 * 4 * PATIENTS, "the detector was really trained, and its objects lie where the structures are"
    lattice = 1e6 / (15 * 2) ** 2
    density = tables.SLIDES.read(folder)
    found = density.groupby("zone")[["cells", "area_mm2"]].sum()
    assert (found["cells"] / found["area_mm2"])["beyond"] == pytest.approx(
        lattice, rel=0.15
    )  # no cell lies at the very edge
    assert faults_of_run(run) == []
    agreement = pd.read_csv(run / "detections" / "annotations" / "agreement.csv")
    assert (agreement["found"] == "both").sum() >= 0.8 * 4 * PATIENTS
    assert "trained detector on PAS" in (folder / "methods.txt").read_text()


def test_the_page_says_where_the_outlines_come_from(run):
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "found by the trained detector in PAS and propagated" in page and "microenvironment_pairs_SR" in page


def test_what_was_detected_before_is_kept(run, monkeypatch):
    from stainda.study import slide_prediction

    monkeypatch.setattr("stainda.prediction.predict_slide", lambda *_, **__: pytest.fail("predicted again"))
    before = tables.INPUTS.at(run).read_bytes()
    measure(run)
    assert tables.INPUTS.at(run).read_bytes() == before and slide_prediction.KEPT == "kept"


def test_a_manifest_needs_the_run_of_a_detector_and_takes_one(run, cohort, tmp_path):
    manifest = cohort[0] / "cohort" / "manifest.csv"
    wanted = {"stains": ["PAS"], "outlines": ["detected"], "cells": "files", "cell_files": str(tmp_path / "cells")}
    with pytest.raises(StaindaError, match="trains no detector"):
        measure(manifest, tmp_path / "run", wanted)
    shutil.copytree(cohort[0] / "cells", tmp_path / "cells")
    for patient in range(PATIENTS):
        (tmp_path / "cells" / f"P{patient}_SR.csv").rename(tmp_path / "cells" / f"P{patient}_PAS.csv")
    measure(manifest, tmp_path / "run", {**wanted, "detector_run": str(run), "simulations": 19, "resamples": 100})
    structures = tables.STRUCTURES.read(tmp_path / "run" / "microenvironment")
    assert (structures["source"] == structures["slide"]).all() and (structures["error_um"] == 0).all()
    assert len(structures) >= 0.8 * 4 * PATIENTS
    assert faults_of_run(tmp_path / "run") == []


@pytest.mark.slow
def test_a_detector_that_finds_nothing_leaves_a_page(cohort, tmp_path):
    """No structure is as large as the task demands, so that there is nothing to count about."""
    few = ["protocol.seeds=1", "search.trials=1", "workers=1", "training.epochs=1", "training.steps_per_epoch=1",
           "task.min_object_um2=1e9"]  # fmt: skip
    root = run_study(cohort[1], tmp_path / "run", overrides=few)
    slides = tables.SLIDES.read(root / "microenvironment")
    assert (slides["structures"] == 0).all() and slides["cells"].sum() > 0
    assert 'id="microenvironment"' in (root / "report" / "index.html").read_text(encoding="utf-8")


def test_a_network_is_a_source_of_cells(run, cohort, tmp_path):
    """The run of a detector of structures is refused; one whose task is cells is taken."""
    arguments = ["microenvironment", str(run), "cells=network", "cell_files=null", "outlines=[own]", "--quiet"]
    refused = CliRunner().invoke(app, [*arguments, f"cell_run={run}"])
    assert refused.exit_code != 0
    said = " ".join((refused.output + str(refused.exception)).split())
    assert "no detector of cells" in said and "glomerulus" in said and "nuclei_detection.yaml" in said
    other = tmp_path / "cell_run"
    shutil.copytree(run, other)
    for settings in (other / "jobs").glob("*/settings.json"):
        values = json.loads(settings.read_text())
        values["task"] |= {"classes": ["macrophage"], "min_object_um2": 10, "name": "macrophages"}
        settings.write_text(json.dumps(values))
        result = settings.with_name("result.json")
        result.write_text(result.read_text().replace("glomerulus", "macrophage"))
    job = next((other / "jobs").glob("*/model.safetensors")).parent
    taken = CliRunner().invoke(app, [*arguments, f"cell_run={job}"])
    assert taken.exit_code == 0, taken.output + str(taken.exception)
    cells = tables.SLIDES.read(run / "microenvironment").groupby("slide")["cells"].sum()
    written = {path.stem: len(read_shapes(path)) for path in (run / "detections" / "cells").glob("*.geojson")}
    assert set(written) == {f"P{k}_SR" for k in range(PATIENTS)}
    assert all(0 < cells[slide] <= number for slide, number in written.items())


TASK = {"name": "nuclei", "kind": "segmentation", "classes": ["nucleus"], "min_object_um2": 10, "objects": "components"}


@pytest.mark.parametrize(
    ("changes", "settings", "reason"),
    [
        ({"classes": ["glomerulus"]}, {}, "finds glomerulus"),
        ({"min_object_um2": 2000}, {}, "2000 µm² and more"),
        ({}, {"cell_classes": ("nucleos",)}, "no class 'nucleos'.*nucleus"),
    ],
)
def test_a_run_without_a_task_of_cells_is_refused(changes, settings, reason, tmp_path):
    config = MicroenvironmentConfig(cells="network", cell_run=tmp_path, **settings)
    with pytest.raises(StaindaError, match=reason):
        check_cell_task({**TASK, **changes}, config, tmp_path)
    check_cell_task(TASK, config.model_copy(update={"cell_classes": ()}), tmp_path)
    check_cell_task({**TASK, "objects": "peaks", "min_object_um2": 2000}, config.model_copy(
        update={"cell_classes": ()}), tmp_path)  # fmt: skip


def test_wrong_detectors_are_refused_before_anything_is_computed(cohort):
    _, study = cohort
    with pytest.raises(ConfigError, match=r"no strategy 'sourceonly'.*source_only"):
        load_study(study, ["microenvironment.detector_strategy=sourceonly"])
    with pytest.raises(ConfigError, match=r"needs a task with the class 'tubule'"):
        load_study(study, ["microenvironment.structures=[tubule]"])
    with pytest.raises(ConfigError, match=r"needs cell_run"):
        load_study(study, ["microenvironment.cells=network", "microenvironment.cell_files=null"])


def test_paths_of_the_section_start_at_the_study_file(cohort, monkeypatch, tmp_path):
    folder, study = cohort
    monkeypatch.chdir(tmp_path)
    assert load_study(study).microenvironment.cell_files == folder / "cells"
    (folder / "other").mkdir()
    other = folder / "other" / "more.yaml"
    other.write_text("extends: ../blobs.yaml\nstudy: more\n")
    assert load_study(other).microenvironment.cell_files.resolve() == (folder / "cells").resolve()
    near = load_study(study, ["microenvironment.detector_run=cohort"])
    assert near.microenvironment.detector_run == folder / "cohort", "as registration.from: next to the study file"
