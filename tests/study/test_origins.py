"""Slides whose scanned part begins elsewhere: the manifest's check, the run directory, propagation and patches."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from scanned_part import BOUNDS, CENTRES, GLOMERULUS, MPP, glomeruli, scanned_picture, write_qupath, write_scn
from small_cohorts import STUDY, write_rows, write_study
from typer.testing import CliRunner

from stainda.annotations import from_level0, read_shapes, write_geojson
from stainda.cli.app import app
from stainda.cohort import read_manifest, write_manifest
from stainda.config import load_study
from stainda.errors import StaindaError
from stainda.run_directory.folder import RunFolder
from stainda.study.run import StudyRun

MIDDLES = np.array(CENTRES) + BOUNDS[:2]
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scanned")
    for number, name in enumerate(
        ("slide", *(f"P{patient}_{stain}" for patient in range(3) for stain in ("PAS", "SR")))
    ):
        picture = scanned_picture()
        picture[80:112, 100:132] = np.random.default_rng(number).integers(100, 200, (32, 32, 3))  # no two are copies
        write_scn(folder / f"{name}.scn", picture)
    return folder


def cohort(folder: Path, slides: Path, frame: str = "bounds", origin: str = "") -> Path:
    """Three patients with annotations as QuPath exports them; ``frame`` is that of the files."""
    folder.mkdir(exist_ok=True)
    rows = []
    for patient, split in enumerate(SPLITS):
        for number, stain in enumerate(("PAS", "SR"), start=1):
            name = f"P{patient}_{stain}"
            (folder / f"{name}.scn").hardlink_to(slides / f"{name}.scn")
            write_qupath(folder / f"{name}.geojson", frame)
            rows.append(
                {
                    "slide": name, "patient": f"P{patient}", "block": f"P{patient}", "section": number, "stain": stain,
                    "centre": "A", "path": f"{name}.scn", "annotations": f"{name}.geojson",
                    "landmarks": "", "mpp": MPP, "split": split, "annotation_origin": origin,
                }
            )  # fmt: skip
    return write_rows(rows, folder / "manifest.csv")


def check(manifest: Path):
    return CliRunner().invoke(app, ["manifest", "check", str(manifest)], env={"COLUMNS": "400"})


@pytest.mark.parametrize(
    ("frame", "origin"), [("bounds", ""), ("bounds", "auto"), ("bounds", "bounds"), ("level0", "level0")]
)
def test_a_manifest_with_the_right_origin_is_accepted(tmp_path, slides, frame, origin) -> None:
    result = check(cohort(tmp_path, slides, frame, origin))
    assert result.exit_code == 0, result.output
    assert "6 sections" in result.output


@pytest.mark.parametrize(("frame", "origin", "right"), [("level0", "", "level0"), ("bounds", "level0", "bounds")])
def test_a_manifest_with_a_wrong_origin_is_told_the_right_one(tmp_path, slides, frame, origin, right) -> None:
    result = check(cohort(tmp_path, slides, frame, origin))
    assert result.exit_code == 2
    assert "6 faults" in result.output
    assert f"annotation_origin {right}" in " ".join(result.output.split())


def test_landmarks_that_count_from_the_scanned_part_are_told(tmp_path, slides) -> None:
    manifest = cohort(tmp_path, slides)
    rows = list(csv.DictReader(manifest.open()))
    for name, step in (("wrong", (0, 0)), ("right", BOUNDS[:2])):
        text = "id,x,y\n" + "".join(f"{k},{x + step[0]},{y + step[1]}\n" for k, (x, y) in enumerate(CENTRES))
        (tmp_path / f"{name}.csv").write_text(text)
        rows[0]["landmarks"] = f"{name}.csv"
        result = check(write_rows(rows, manifest))
        assert (result.exit_code, "add 600 to x and 400 to y" in result.output) == (
            (2, True) if name == "wrong" else (0, False)
        )


def test_an_unknown_origin_is_a_fault_with_its_row(tmp_path, slides) -> None:
    result = check(cohort(tmp_path, slides, origin="bound"))
    assert result.exit_code == 2
    assert "Did you mean 'bounds'" in " ".join(result.output.split())


def test_the_column_is_written_and_read(tmp_path, slides) -> None:
    read = read_manifest(cohort(tmp_path, slides, "level0", "level0"))
    assert [one.annotation_origin for one in read] == ["level0"] * 6
    again = read_manifest(write_manifest(read, tmp_path / "again.csv"))
    assert [section.annotation_origin for section in again] == ["level0"] * 6


def run_of(folder: Path, manifest: Path) -> StudyRun:
    text = STUDY.replace("split: [0.4, 0.2, 0.4]", "split: [0.34, 0.33, 0.33]").replace("mpp: 4.0", "mpp: 2.0")
    study = load_study(write_study(manifest, folder / "study.yaml", text))
    return StudyRun(study, RunFolder(folder / "run"))


@pytest.mark.parametrize(("frame", "origin"), [("bounds", ""), ("level0", "level0")])
def test_labels_of_a_run_lie_on_the_glomeruli(tmp_path, slides, frame, origin) -> None:
    run = run_of(tmp_path, cohort(tmp_path / "data", slides, frame, origin))
    run.prepare()
    run.gather()
    own = run.own_shapes["P0_PAS"]
    np.testing.assert_allclose([one.centroid.coords[0] for one in own.geometry], MIDDLES, atol=0.01)

    run.register()
    run.propagate()
    path = run.folder.root / "annotations" / "propagated" / "P0_SR.geojson"
    document = json.loads(path.read_text())
    assert document["stainda"]["frame"] == "bounds"
    seen = shapely.geometry.shape(document["features"][0]["geometry"]).centroid
    assert np.linalg.norm(np.array(CENTRES) - seen.coords[0], axis=1).min() < 1, "where QuPath shows it"
    for shapes in (read_shapes(path), run.propagated_shapes["P0_SR"]):
        middles = [one.centroid.coords[0] for one in shapes.geometry[shapes["class"] == "glomerulus"]]
        np.testing.assert_allclose(sorted(middles), sorted(map(tuple, MIDDLES)), atol=1)

    run.cut_patches()
    from stainda.patches import PatchStore

    store = PatchStore.open(run.folder.root / "patches")
    labelled = store.images[store.labels("own") == 1]
    assert len(labelled) > 300
    np.testing.assert_allclose(np.median(labelled, axis=0), GLOMERULUS, atol=2)


def test_a_run_with_a_wrong_origin_stops_and_says_the_right_one(tmp_path, slides) -> None:
    run = run_of(tmp_path, cohort(tmp_path / "data", slides, "level0"))
    run.prepare()
    with pytest.raises(StaindaError, match="annotation_origin level0"):
        run.gather()


def test_annotators_of_one_slide_each_through_the_door(tmp_path, slides) -> None:
    manifest = cohort(tmp_path / "data", slides)
    write_geojson(glomeruli(), tmp_path / "data" / "marked.geojson")  # of stainda: level 0, and says so
    sections = read_manifest(manifest).sections
    both = replace(sections[0], more_annotations=(tmp_path / "data" / "marked.geojson",))
    write_manifest([both, *sections[1:]], manifest)
    run = run_of(tmp_path, manifest)
    run.prepare()
    run.gather()
    assert len(run.own_shapes["P0_PAS"]) == 3
    dissent = json.loads((run.folder.annotations / "dissent" / "P0_PAS.geojson").read_text())
    assert dissent["stainda"] == {"frame": "bounds", "bounds": list(BOUNDS)}


def test_check_convert_and_fuse_on_the_command_line(tmp_path, slides) -> None:
    slide = str(slides / "slide.scn")
    for frame in ("bounds", "level0"):
        write_qupath(tmp_path / f"{frame}.geojson", frame)

    def call(*words: str):
        return CliRunner().invoke(app, ["annotations", *words, "--slide", slide], env={"COLUMNS": "300"})

    assert call("check", str(tmp_path / "bounds.geojson")).exit_code == 0
    assert call("check", str(tmp_path / "level0.geojson"), "--origin", "level0").exit_code == 0
    for frame, wrong, right in (("level0", "auto", "level0"), ("bounds", "level0", "bounds")):
        result = call("check", str(tmp_path / f"{frame}.geojson"), "--origin", wrong)
        assert result.exit_code != 0
        assert f"--origin {right}" in f"{result.output} {result.exception}"

    asap, back, plain = (str(tmp_path / name) for name in ("a.xml", "back.geojson", "plain.geojson"))
    assert call("convert", str(tmp_path / "bounds.geojson"), asap, "--to", "asap").exit_code == 0
    assert call("convert", asap, back).exit_code == 0
    assert call("convert", asap, plain, "--to-origin", "level0").exit_code == 0
    written = {name: json.loads(Path(name).read_text()) for name in (back, plain)}
    corners = {
        name: shapely.geometry.shape(one["features"][0]["geometry"]).centroid.coords[0] for name, one in written.items()
    }
    np.testing.assert_allclose(corners[back], CENTRES[0], atol=1e-6)
    np.testing.assert_allclose(corners[plain], MIDDLES[0], atol=1e-6)

    out = tmp_path / "fused.geojson"
    assert call("fuse", str(tmp_path / "bounds.geojson"), asap, "--out", str(out)).exit_code == 0
    fused = from_level0(read_shapes(out), "bounds", BOUNDS)
    np.testing.assert_allclose(
        sorted(one.centroid.x for one in fused.geometry), sorted(x for x, _ in CENTRES), atol=0.3
    )
