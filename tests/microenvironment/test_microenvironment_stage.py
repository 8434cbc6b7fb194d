"""The stage on sections made by script: numbers, files, what is left out, and that nothing is done twice."""

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from declared_files import faults_of_run
from made_sections import STRUCTURES, cells_at, make_cohort_files

from stainda.annotations import read_shapes
from stainda.cohort import read_manifest
from stainda.config import RegistrationConfig
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.errors import StaindaError
from stainda.microenvironment import measure_microenvironment
from stainda.microenvironment.curves import MeasuredCurves, SectionCurve, curve_rows
from stainda.microenvironment.raster_fields import StepCounts
from stainda.microenvironment.section import tissue_window
from stainda.run_directory import microenvironment_tables as tables
from stainda.slides import open_slide
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


def test_the_nearest_cell_may_lie_beyond_all_rings(made, tmp_path):
    """Structures without a cell within the last ring belong to the patient's median like any other."""
    manifest, truth, root = made
    measure_microenvironment(read_manifest(manifest), MicroenvironmentConfig(**FAST, rings_um=(3,)), tmp_path)
    discs = [shapely.Point(x, y).buffer(r, quad_segs=64) for x, y, r in STRUCTURES]
    for folder in (root, tmp_path):
        patients = tables.PATIENTS.read(folder / "microenvironment").set_index(["measure", "patient"])["value"]
        for patient in ("P0", "P1"):
            cells = shapely.points(truth[f"{patient}_CD68"])
            away = [min(disc.distance(cell) for cell in cells if not disc.contains(cell)) for disc in discs]
            assert max(away) > 3 and patients["nearest", patient] == pytest.approx(np.median(away), abs=0.7)


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
    ring = tables.PATIENTS.read(folder).set_index("measure").loc["0-25"]
    assert ring["error_bias"] < -0.1 and ring["corrected"] == pytest.approx(
        ring["value"] * (1 - ring["error_bias"]), 1e-3
    )
    assert tables.SLIDES.read(folder).set_index("zone").loc["0-25", "corrected"] > ring["value"] * 0.9
    measure_microenvironment(
        read_manifest(manifest), config.model_copy(update={"error_um": 80.0, "max_error_um": 90}), root
    )
    assert tables.ZONES.read(folder).query("zone == 'inside'")["thin"].all(), "the radius is thinner than the error"
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


@pytest.mark.parametrize(
    "wrong",
    [{"cells": "files"}, {"outline_files": "x"}, {"rings_um": (50, 25)}, {"null_models": "relabel"},
     {"null_models": ("csr", "csr")}, {"null_models": ("relabel",), "cells": "files", "cell_files": "x"},
     {"detector_strategy": "source_only"}, {"cell_run": "x"}],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValueError, match=r"cell_files|outline_files|rings_um|relabel|twice|detected|cell_run"):
        MicroenvironmentConfig(**wrong)


def test_every_null_hypothesis_is_in_the_tables_and_they_answer_different_questions(tmp_path):
    """All cells are at the outlines; those that count are no nearer to them than the others."""
    manifest, _ = make_cohort_files(tmp_path, patients=3, annotated=("CD68",))
    (tmp_path / "cells").mkdir()
    for patient in range(3):
        rng = np.random.default_rng(100 + patient)
        cells = np.concatenate([cells_at(rng, 90, around=0.9), cells_at(rng, 90, around=0.9)])
        kinds = rng.permutation(["positive"] * 90 + ["negative"] * 90)
        frame = pd.DataFrame({"x": cells[:, 0], "y": cells[:, 1], "class": kinds})
        frame.to_csv(tmp_path / "cells" / f"P{patient}_CD68.csv", index=False)
    config = MicroenvironmentConfig(
        **FAST, cells="files", cell_files=tmp_path / "cells", cell_classes=("positive",),
        null_models=("shift", "relabel", "csr"),
    )  # fmt: skip
    root = tmp_path / "run"
    measure_microenvironment(read_manifest(manifest), config, root)
    assert faults_of_run(root) == []
    curves = tables.CURVES.read(root / "microenvironment")
    assert tables.SLIDES.read(root / "microenvironment")["cells"].sum() == 270
    whole = curves[curves["scope"] == "all"]
    p = whole.groupby(["function", "null"])["p"].first()
    assert set(p.index) == {
        *(
            (name, null)
            for name in ("density", "cross_g", "cross_L", "cross_K")
            for null in ("shift", "relabel", "csr")
        ),
        *((name, null) for name in ("g", "L", "K") for null in ("relabel", "csr")),
    }
    assert p["density", "csr"] <= 0.05 and p["density", "shift"] <= 0.05 and p["density", "relabel"] > 0.05
    density = whole[(whole["function"] == "density") & (whole["null"] == "relabel")].set_index("to_um")
    middle = (density["low"] + density["high"]) / 2
    assert middle[15.0] > 2 and density["value"][15.0] == pytest.approx(middle[15.0], rel=0.4)
    assert (density["ci_low"] <= density["value"] + 1e-9).all() and density["ci_high"].notna().all()
    one = curves[(curves["scope"] == "patient") & (curves["function"] == "density")]
    assert one["ci_low"].isna().all(), "a patient with one section has no interval over sections"


def test_the_curves_of_patients_are_sums_over_their_sections():
    steps = np.array([15.0, 30.0])

    def section(slide, patient, found, expected):
        counts = StepCounts(np.array(found, float), np.array(expected, float))
        drawn = StepCounts(np.tile(expected, (19, 1)).astype(float), np.tile(expected, (19, 1)).astype(float))
        curve = SectionCurve("cross", "csr", steps - 15, steps, counts, drawn, 10, 100.0)
        return MeasuredCurves(slide, patient, "", "CD68", [curve])

    sections = [section("a", "P", [4, 2], [2, 2]), section("b", "P", [0, 6], [2, 6]), section("c", "Q", [3, 3], [1, 3])]
    rows = pd.DataFrame(curve_rows(sections, MicroenvironmentConfig(), np.random.default_rng(0)))
    g = rows[rows["function"] == "cross_g"].pivot_table(index=["scope", "name"], columns="to_um", values="value")
    assert g.loc["patient", "P"].tolist() == [4 / 4, 8 / 8] and g.loc["all", "all"].tolist() == [7 / 5, 11 / 11]
    k = np.pi * (g.loc["all", "all"][15.0] * 225 + g.loc["all", "all"][30.0] * (900 - 225))
    el = rows[(rows["function"] == "cross_L") & (rows["scope"] == "all") & (rows["to_um"] == 30)]["value"].iloc[0]
    assert el == pytest.approx(np.sqrt(k / np.pi) - 30, abs=1e-3)
    assert not (rows["scope"] == "group").any(), "patients without a group are in no curve of a group"


def test_lumina_count_as_tissue_and_holes_do_not(tmp_path):
    image = np.full((400, 400, 3), 245, np.uint8)
    image[40:360, 40:360] = (222, 200, 214)
    y, x = np.mgrid[:400, :400]
    for cx, radius in ((120, 25), (250, 70)):
        image[np.hypot(x - cx, y - 200) < radius] = 245
    path = tmp_path / "holes.tif"
    tifffile.imwrite(path, image, resolution=(1e4, 1e4), resolutionunit="CENTIMETER")
    with open_slide(path) as slide:
        areas = [tissue_window(slide, slide.mpp, np.zeros(0, object), least).area for least in (500, 5000, 50_000)]
    lumen, hole = np.pi * 25**2, np.pi * 70**2
    assert areas == pytest.approx([320**2 - lumen - hole, 320**2 - hole, 320**2], rel=0.01)
