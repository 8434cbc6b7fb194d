"""The stage on sections made by script: numbers, files, what is left out, and that nothing is done twice."""

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from declared_files import faults_of_run
from made_sections import STRUCTURES, make_cohort_files

from stainda.annotations import read_shapes
from stainda.cohort import read_manifest
from stainda.config import RegistrationConfig
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.errors import StaindaError
from stainda.microenvironment import measure_microenvironment
from stainda.run_directory import microenvironment_tables as tables
from stainda.study.steps import propagate_manifest, register_manifest

FAST = {"simulations": 39, "draws": 5, "resamples": 200}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("micro")
    manifest, truth = make_cohort_files(folder)
    root = folder / "run"
    measure_microenvironment(read_manifest(manifest), MicroenvironmentConfig(**FAST), root)
    return manifest, truth, root


def test_every_file_is_as_declared(made):
    root = made[2]
    assert faults_of_run(root) == []
    assert (root / "microenvironment" / "methods.txt").read_text().startswith("Cells were counted")


def test_zones_hold_the_cells_that_were_drawn(made):
    _, truth, root = made
    zones = tables.ZONES.read(root / "microenvironment")
    discs = [shapely.Point(x, y).buffer(r, quad_segs=64) for x, y, r in STRUCTURES]
    for slide, cells in truth.items():
        if slide.endswith("PAS"):
            continue
        mine = zones[zones["slide"] == slide]
        for k, disc in enumerate(discs):
            row = mine[mine["id"].str.endswith(str(k)) & (mine["zone"] == "0-25")].iloc[0]
            away = np.array([disc.exterior.distance(p) for p in shapely.points(cells)])
            near = (away <= 25) & ~shapely.contains_xy(disc, *cells.T)
            assert abs(row["cells"] - near.sum()) <= 2
            area = disc.buffer(25, quad_segs=64).area - disc.area
            if k != 4:  # the fifth has neighbours
                assert row["area_um2"] == pytest.approx(area, rel=0.01)
            assert row["low"] <= row["density"] <= row["high"]


def test_slides_patients_and_curves_say_the_same(made):
    _, truth, root = made
    folder = root / "microenvironment"
    slides, patients, curves = (table.read(folder) for table in (tables.SLIDES, tables.PATIENTS, tables.CURVES))
    counted = slides.groupby("slide")["cells"].sum()
    assert all(abs(counted[slide] - len(truth[slide])) <= 4 for slide in counted.index)
    tissue = patients[patients["measure"] == "tissue"].set_index("patient")["value"]
    assert tissue["P1"] / tissue["P0"] == pytest.approx(170 / 120, rel=0.05)
    assert (patients[patients["measure"] == "enrichment"]["value"] > 1.5).all()
    density = curves[(curves["function"] == "density") & (curves["scope"] == "all")]
    assert density["value"].iloc[1] > density["high"].iloc[1] and density["p"].iloc[0] <= 0.05
    assert tables.GROUPS.read(folder)["note"].str.contains("no test").all()


def test_qupath_sees_cells_structures_and_map(made):
    root = made[2] / "microenvironment"
    cells = read_shapes(root / "cells" / "P0_CD68.geojson")
    assert {"distance_um", "optical_density"} <= set(cells["properties"].iloc[0]["measurements"]) | {"distance_um"}
    outlines = json.loads((root / "structures" / "P0_CD68.geojson").read_text())["features"]
    assert {"0-25 per mm2", "inside cells"} <= {*_names(outlines[0])}
    squares = json.loads((root / "maps" / "P0_CD68.geojson").read_text())["features"]
    total = sum(_value(one, "cells") for one in squares)
    with tifffile.TiffFile(root / "maps" / "P0_CD68.ome.tiff") as image:
        assert image.is_ome and image.asarray().shape == (9, 9)
    assert total == len(cells)


def _names(feature):
    found = feature["properties"]["measurements"]
    return found if isinstance(found, dict) else [one["name"] for one in found]


def _value(feature, name):
    found = feature["properties"]["measurements"]
    return found[name] if isinstance(found, dict) else next(one["value"] for one in found if one["name"] == name)


def test_what_is_there_is_not_measured_again(made, monkeypatch):
    manifest, _, root = made

    def never(*_):
        raise AssertionError("measured again")

    # by its module: the name stainda.microenvironment is the verb once anybody asked for it
    monkeypatch.setattr(import_module("stainda.microenvironment.run"), "measure_section", never)
    measure_microenvironment(read_manifest(manifest), MicroenvironmentConfig(**FAST), root)
    with pytest.raises(AssertionError):
        measure_microenvironment(read_manifest(manifest), MicroenvironmentConfig(**FAST, rings_um=(30,)), root)


def test_propagated_outlines_bring_their_error_into_the_intervals(tmp_path):
    manifest, _ = make_cohort_files(tmp_path, patients=1, annotated=("PAS",))
    root = tmp_path / "run"
    register_manifest(manifest, root, RegistrationConfig(method="identity"), workers=1)
    propagate_manifest(manifest, root)
    config = MicroenvironmentConfig(**FAST, min_confidence=0.0)
    measure_microenvironment(read_manifest(manifest), config, root)
    folder = root / "microenvironment"
    structures, errors = tables.STRUCTURES.read(folder), tables.ERRORS.read(folder)
    assert (structures["source"] == "P0_PAS").all() and (structures["error_um"] < 15).all()
    assert errors["evidence"].iloc[0] == "images"
    assert structures["identity"].nunique() == len(structures) == len(STRUCTURES)
    same = tables.IDENTITIES.read(folder)
    assert (same["sections"] == 2).all() and (same["profiles"] == 1).all()
    exact = tables.ZONES.read(folder)
    measure_microenvironment(read_manifest(manifest), config.model_copy(update={"error_um": 30.0}), root)
    wide = tables.ZONES.read(folder)
    assert wide["thin"].sum() > exact["thin"].sum() == 0
    span = [(one["high"] - one["low"]).mean() for one in (exact, wide)]
    assert span[1] > span[0]
    measure_microenvironment(
        read_manifest(manifest), config.model_copy(update={"error_um": 20.0, "max_error_um": 10.0}), root
    )
    told = tables.LEFT_OUT.read(folder)
    assert told[told["what"] == "structures"]["number"].sum() == len(STRUCTURES)


def test_sections_without_outlines_are_told_and_none_at_all_is_an_error(tmp_path):
    manifest, _ = make_cohort_files(tmp_path, patients=1, annotated=("PAS",))
    with pytest.raises(StaindaError, match="not annotated; no propagated outlines"):
        measure_microenvironment(read_manifest(manifest), MicroenvironmentConfig(**FAST), tmp_path / "run")
    with pytest.raises(StaindaError, match="no section is stained"):
        measure_microenvironment(read_manifest(manifest), MicroenvironmentConfig(stains=("CD3",)), tmp_path / "run")


def test_cells_and_outlines_come_from_folders(tmp_path):
    manifest, truth = make_cohort_files(tmp_path, patients=1, annotated=("CD68",))
    cells = tmp_path / "cells"
    cells.mkdir()
    pd.DataFrame(truth["P0_CD68"], columns=["x", "y"]).to_csv(cells / "P0_CD68.csv", index=False)
    config = MicroenvironmentConfig(
        **FAST, cells="files", cell_files=cells, outlines=("files",), outline_files=tmp_path / "annotations"
    )
    root = tmp_path / "run"
    measure_microenvironment(read_manifest(manifest), config, root)
    assert tables.SLIDES.read(root / "microenvironment")["cells"].sum() == len(truth["P0_CD68"])
    with pytest.raises(StaindaError, match="no cells of P0_CD68"):
        (cells / "P0_CD68.csv").unlink()
        measure_microenvironment(read_manifest(manifest), config, root)


@pytest.mark.parametrize("wrong", [{"cells": "files"}, {"outline_files": "x"}, {"rings_um": (50, 25)}])
def test_settings_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValueError, match=r"cell_files|outline_files|rings_um"):
        MicroenvironmentConfig(**wrong)
