"""A study of several rotations: each is measured with its own outlines, and the root's tables hold all of them."""

import csv

import numpy as np
import pandas as pd
import pytest
from declared_files import faults_of_run
from small_cohorts import STUDY, make_blob_cohort, write_rows, write_study
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.errors import StaindaError
from stainda.run_directory import microenvironment_tables as tables
from stainda.study import run_study
from stainda.study.microenvironment import measure

SLIDES = [f"P{patient}_SR" for patient in range(6)]
SETTINGS = """
microenvironment: {stains: [SR], outlines: [propagated], cells: files, cell_files: cells, rings_um: [30],
  min_confidence: 0, simulations: 19, resamples: 100, draws: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two centres teach in turn: PAS@A and PAS@B, each propagated to the SR sections of its own patients."""
    folder = tmp_path_factory.mktemp("rotating")
    manifest = make_blob_cohort(folder / "cohort", patients=6)
    rows = [{**row, "centre": "A" if row["patient"] < "P3" else "B"} for row in csv.DictReader(manifest.open())]
    write_rows(rows, manifest)
    (folder / "cells").mkdir()
    for patient in range(6):
        points = np.random.default_rng(patient).uniform(25, 355, (150, 2))
        pd.DataFrame(points, columns=["x", "y"]).to_csv(folder / "cells" / f"P{patient}_SR.csv", index=False)
    text = STUDY.replace(
        "protocol: {{sources: [PAS@A], seeds: 2, split: [0.4, 0.2, 0.4]}}",
        "protocol: {{scheme: all_pairs, sources: [PAS@*], seeds: 1, split: [0.34, 0.33, 0.33]}}",
    ).replace("[source_only, adabn, dann, propagated_labels, oracle]", "[source_only]")
    study = write_study(manifest, folder / "turns.yaml", text + SETTINGS.replace("{", "{{").replace("}", "}}"))
    return run_study(study, folder / "run", overrides=["workers=1"], until="propagate")


def test_every_rotation_is_measured_and_the_root_has_them_all(run):
    result = CliRunner().invoke(app, ["microenvironment", str(run), "--quiet"])
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "rotation" in result.output
    for name, others in (("PAS@A", SLIDES[:3]), ("PAS@B", SLIDES[3:])):
        folder = run / "rotations" / name / "microenvironment"
        assert set(tables.STRUCTURES.read(folder)["slide"]) == set(others)
        assert (run / "rotations" / name / "report" / "index.html").is_file()
    slides = tables.SLIDES.read(run / "microenvironment")
    assert slides.groupby("rotation")["slide"].unique().map(sorted).to_dict() == {
        "PAS@A": SLIDES[:3], "PAS@B": SLIDES[3:],
    }  # fmt: skip
    assert tables.PATIENTS.read(run / "microenvironment")["rotation"].nunique() == 2
    assert faults_of_run(run) == []


def test_a_study_whose_rotations_were_not_begun_says_so(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "study.yaml").write_bytes((run / "study.yaml").read_bytes())
    with pytest.raises(StaindaError, match=r"no rotation .* was begun"):
        measure(tmp_path / "run")
