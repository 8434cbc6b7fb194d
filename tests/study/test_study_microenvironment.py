"""From PAS outlines to macrophages about glomeruli on CD68 sections: one study file, its page, the other ways in."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from declared_files import faults_of_run
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.config import load_study
from stainda.errors import StaindaError
from stainda.run_directory import microenvironment_tables as tables
from stainda.study.dispatch import run_study
from stainda.study.microenvironment import measure

SMALL = Path(__file__).parents[2] / "studies" / "small" / "microenvironment.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("microenvironment") / "run"
    run_study(load_study(SMALL, DRAWN), root, until="propagate")
    measure(root)
    return root


DRAWN = [
    "phantom.patients=6", "phantom.size=512", "phantom.mpp=1.5", "workers=1", "microenvironment.outlines=[propagated]",
    "microenvironment.detector_strategy=null", "microenvironment.simulations=19",
]  # fmt: skip
"""The outlines are propagated as they were drawn: nothing is trained."""


@pytest.mark.slow
def test_the_small_variant_goes_from_outlines_in_pas_to_the_page(tmp_path):
    """Registration, a trained detector, propagation, cells, groups: one command."""
    root = measure(SMALL, tmp_path / "run", {})
    structures = tables.STRUCTURES.read(root / "microenvironment")
    assert len(structures) > 20 and structures["source"].str.contains("PAS").all()
    agreement = pd.read_csv(root / "detections" / "annotations" / "agreement.csv")
    assert (agreement["found"] == "both").mean() > 0.6
    patients = tables.PATIENTS.read(root / "microenvironment")
    ring = patients[patients["measure"] == "0-25"].groupby("group")["value"].mean()
    assert ring["rejection"] / ring["stable"] == pytest.approx(2, rel=0.4)
    page = (root / "report" / "index.html").read_text(encoding="utf-8")
    assert "found by the trained detector in PAS and propagated" in page
    assert faults_of_run(root) == []


def test_the_outlines_are_those_of_pas_and_the_groups_differ_as_the_law_says(run):
    folder = run / "microenvironment"
    structures = tables.STRUCTURES.read(folder)
    assert len(structures) > 20 and structures["source"].str.contains("PAS").all()
    assert structures["error_um"].between(0.1, 20).all()
    patients = tables.PATIENTS.read(folder)
    ring = patients[patients["measure"] == "0-25"].groupby("group")["value"].mean()
    assert ring["rejection"] / ring["stable"] == pytest.approx(2, rel=0.5)
    law = pd.read_csv(run / "phantom" / "law.csv")
    stable = law[(law["zone"] == "0-25") & (law["group"] == "stable")]["per_mm2"].mean()
    assert ring["stable"] == pytest.approx(stable, rel=0.5)
    groups = tables.GROUPS.read(folder)
    assert np.isfinite(groups.loc[groups["measure"] == "0-25", "q"]).all()


def test_the_page_shows_it_and_every_file_is_declared(run):
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert 'id="microenvironment"' in page and "Cells in and around structures" in page
    assert "propagated from PAS" in page
    answer = (run / "report" / "answer.txt").read_text(encoding="utf-8").splitlines()
    groups = tables.GROUPS.read(run / "microenvironment").set_index("measure")
    rejection, stable = groups.loc["0-25", ["mean_first", "mean_second"]]
    ring = "cells per mm² in the ring 0-25 µm about structures in"
    assert answer[0].startswith(f"CD68: {rejection:.3g} {ring} rejection and {stable:.3g} in stable")
    differ = (groups["q"] < 0.05).sum()
    assert (f" The groups differ in {differ} of" if differ else " no difference could be shown there") in answer[0]
    assert not any("no answer yet" in line for line in answer)
    assert {one.name for one in (run / "report" / "figures").glob("microenvironment_*CD68.csv")} >= {
        "microenvironment_distance_CD68.csv", "microenvironment_patients_CD68.csv",
    }  # fmt: skip
    assert list((run / "report" / "figures").glob("microenvironment_groups_*.svg"))
    assert faults_of_run(run) == []


def test_a_run_is_measured_again_with_other_settings(run):
    before = tables.INPUTS.at(run).read_bytes()
    result = CliRunner().invoke(app, ["microenvironment", str(run), "rings_um=[40]", "simulations=19", "--quiet"])
    assert result.exit_code == 0, result.output
    assert tables.INPUTS.at(run).read_bytes() != before
    assert set(tables.ZONES.read(run / "microenvironment")["zone"]) == {"inside", "0-40"}


def test_a_page_without_it_has_no_such_section(run):
    from stainda.report.layout import sections_of
    from stainda.report.loading import load_run

    assert "microenvironment" in sections_of(load_run(run), "domain")
    aside = tables.INPUTS.at(run).rename(run / "microenvironment" / "aside.json")
    try:
        assert "microenvironment" not in sections_of(load_run(run), "domain")
    finally:
        aside.rename(tables.INPUTS.at(run))


@pytest.mark.parametrize(
    ("words", "told"),
    [(["absent.yaml"], "no such file"), (["."], "not the run directory"), (["{run}", "rings_um"], "KEY=VALUE"),
     (["{run}", "ring_um=[5]"], "rings_um"), (["{run}", "rings_um=[5"], "value")],
)  # fmt: skip
def test_what_cannot_be_is_told(run, words, told):
    result = CliRunner().invoke(app, ["microenvironment", *(word.format(run=run) for word in words)])
    assert result.exit_code != 0
    said = result.output + str(result.exception)
    assert told in " ".join(said.split())


def test_a_wrong_setting_is_reported_before_the_study_is_run(tmp_path):
    with pytest.raises(StaindaError, match="rings_um must increase"):
        measure(SMALL, tmp_path / "run", {"rings_um": (30.0, 10.0)})
    assert not (tmp_path / "run").exists()


def test_a_manifest_needs_a_run_directory(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("slide,patient,block,section,stain,centre,path\n")
    with pytest.raises(StaindaError, match="run directory"):
        measure(path)
