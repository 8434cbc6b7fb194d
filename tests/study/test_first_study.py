"""A laboratory's folder becomes a study that can be planned; what a cohort cannot answer is said first."""

from __future__ import annotations

import json
import shutil

import pytest
from laboratory import make_laboratory
from typer.testing import CliRunner

from stainda.cli import init
from stainda.cli.app import app
from stainda.config import load_study
from stainda.errors import ConfigError, ManifestError
from stainda.study.answerable import check_study, refuse_unanswerable, sizes_in_um
from stainda.study.checks import plan_rotations
from stainda.study.proposing import propose, scan
from stainda.study.starting import write_start


def _run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def laboratories(tmp_path_factory):
    """Drawn folders by number of patients; the slides get their pixel size from the manifest written below."""
    place = tmp_path_factory.mktemp("laboratories")
    return {n: make_laboratory(place / f"lab{n}", n, drawn=True, ending=".png") for n in (1, 2, 3, 4, 5, 6)}


@pytest.mark.parametrize(
    ("patients", "sources"),
    [(1, None), (3, ("PAS@Centre A",)), (4, ("PAS@*",)), (5, ("PAS@Centre A",)), (6, ("PAS@Centre A",))],
)
def test_the_study_passes_its_checks_unedited(laboratories, tmp_path, patients, sources):
    start = propose(laboratories[patients])
    assert start.feasible and start.task == "glomeruli_segmentation"
    assert start.pattern == ("{centre}/{patient}_{block}_{section}_{stain}.png")
    assert sources is None or start.sources == sources
    written = write_start(start, tmp_path, "lab")
    assert not [finding for finding in written.findings if finding.kind == "stops"]
    config = load_study(written.study)
    refuse_unanswerable(config, plan_rotations(config, written.manifest))
    assert "EDIT" in written.study.read_text() and "Glomerulus,glomerulus" in written.classes.read_text()
    assert "this study can run" in _run("manifest", "check", written.study)


def test_a_domain_without_a_patient_to_test_is_left_out_of_the_targets_and_said(laboratories, tmp_path):
    start = propose(laboratories[3])
    assert start.untested == ("SR@Centre A",) and set(start.targets) == {"PAS@Centre B", "SR@Centre B"}
    assert any("SR@Centre A: not tested" in note for note in start.notes)
    text = write_start(start, tmp_path, "lab").study.read_text()
    assert "EDIT: without SR@Centre A: not tested" in text
    assert propose(laboratories[6]).untested == ()


def test_two_patients_are_too_few_and_what_is_needed_is_said(laboratories, tmp_path):
    start = propose(laboratories[2])
    assert not start.feasible
    written = write_start(start, tmp_path, "lab")
    said = "\n".join(str(finding) for finding in written.findings if finding.kind == "stops")
    assert "this cohort cannot be split: it has 2 patients" in said and "column split" in said
    assert "Needed: 1 more patient; annotated sections in PAS@Centre A of 1 more patient" in said
    assert "THIS STUDY CANNOT RUN YET: this cohort cannot be split" in written.study.read_text()
    assert "Needed at least" in " ".join(_run("manifest", "check", written.study, code=2).split())


def test_enough_patients_whose_targets_are_not_annotated_are_told_so(tmp_path):
    folder = make_laboratory(tmp_path / "lab", 4, outlined=["PAS"], drawn=True, ending=".png")
    for file in (folder / "Centre B").iterdir():
        file.rename(folder / "Centre A" / file.name)
    start = propose(folder, "{centre}/{patient}_{block}_{section}_{stain}.png")
    assert start.sources == ("PAS@Centre A",) and not start.feasible
    assert start.lacking.endswith("Needed: an annotated section in SR@Centre A of a patient who is tested")


def test_what_stops_a_study_leaves_the_check_as_the_next_command(laboratories, tmp_path):
    said = _run("init", laboratories[2], "--out", tmp_path / "two", "--yes")
    assert "This study cannot run yet:\n- this cohort cannot be split" in said
    assert "stainda manifest check" in said and "stainda run" not in said
    said = _run("init", laboratories[3], "--out", tmp_path / "three", "--yes")
    assert "This study can run" in said and "stainda run" in said and "SR@Centre A: not tested" in said


def test_init_asks_nothing_off_a_terminal_and_overwrites_nothing(laboratories, tmp_path):
    out = tmp_path / "mine"
    said = _run("init", laboratories[4], "--out", out, "--name", "mine", "--yes")
    assert "2021-014_B1" in said and "2 scored test patients" in said and f"stainda plan {out}/mine.yaml" in said
    before = (out / "mine.yaml").read_bytes()
    result = CliRunner().invoke(app, ["init", str(laboratories[4]), "--out", str(out), "--name", "mine"])
    assert isinstance(result.exception, ConfigError) and "not overwritten" in str(result.exception)
    assert (out / "mine.yaml").read_bytes() == before


def test_a_wrong_answer_on_a_terminal_is_told_and_asked_for_again(laboratories, tmp_path, monkeypatch):
    monkeypatch.setattr(init, "_on_a_terminal", lambda: True)
    answers = ["", "PAS@centre A", "PAS@Centre B", "glomerulli_segmentation", "Glomerulus"]
    words = ["init", str(laboratories[4]), "--out", str(tmp_path / "mine"), "--name", "mine"]
    done = CliRunner().invoke(app, words, input="".join(f"{answer}\n" for answer in answers))
    assert done.exit_code == 0, (done.output, done.exception)
    assert "Did you mean 'PAS@Centre A'?" in done.output and "Did you mean 'glomeruli_segmentation'?" in done.output
    config = load_study(tmp_path / "mine" / "mine.yaml")
    assert config.protocol.sources == ("PAS@Centre B",) and config.task.classes == ("Glomerulus",)
    again = CliRunner().invoke(app, words, input="")
    assert isinstance(again.exception, ConfigError) and "Pattern of the names" not in again.output


def test_a_task_that_is_not_there_is_refused_before_anything_is_written(laboratories, tmp_path):
    words = ["init", str(laboratories[4]), "--out", str(tmp_path / "mine"), "--task", "glomerulli_segmentation"]
    assert isinstance(CliRunner().invoke(app, words).exception, ConfigError)
    assert not (tmp_path / "mine").exists()


def test_a_folder_without_annotations_is_refused(tmp_path):
    folder = make_laboratory(tmp_path / "lab", 4, outlined=(), drawn=True, ending=".png")
    with pytest.raises(ManifestError, match="no slide is annotated"):
        propose(folder)


def test_one_centre_over_folders_of_two_is_refused_with_the_right_pattern(laboratories):
    with pytest.raises(ManifestError, match=r"--pattern '\{centre\}/\{patient\}_\{block\}_\{section\}_\{stain\}.png'"):
        scan(laboratories[4], "{patient}_{block}_{section}_{stain}.png", {"centre": "A"})
    found, _, _ = scan(laboratories[4], "{patient}_{block}_{section}_{stain}.png", {"centre": "A"}, one_centre=True)
    assert {section.centre for section in found.sections} == {"A"}


@pytest.fixture
def study(laboratories, tmp_path):
    shutil.copytree(laboratories[6], tmp_path / "lab")
    written = write_start(propose(tmp_path / "lab"), tmp_path, "lab")
    return written


def _said(study, kind, *overrides):
    return "\n".join(str(one) for one in check_study(load_study(study.study, overrides)) if one.kind == kind)


def _redraw(study, name, keep=lambda split, stain: True):
    """Give the outlines of the sections that are not kept another class."""
    import csv

    with study.manifest.open(newline="") as stream:
        for row in csv.DictReader(stream):
            if not keep(row["split"], row["stain"]):
                path = study.manifest.parent / row["annotations"]
                path.write_text(path.read_text().replace("Glomerulus", name))


def test_a_validation_without_objects_is_said(study):
    _redraw(study, "Tubule", keep=lambda split, stain: split != "val")
    assert "no val section of the source domains" in _said(study, "stops", "classes={}")


def test_a_class_that_nobody_drew_is_said_with_what_there_is(study):
    _redraw(study, "Tubule", keep=lambda split, stain: False)
    said = _said(study, "stops", "classes={}")
    assert "no source section has a shape of class 'glomerulus'; drawn are 'Tubule'" in said
    config = load_study(study.study, ["classes={}"])
    with pytest.raises(ConfigError, match="drawn are 'Tubule'"):
        refuse_unanswerable(config, plan_rotations(config, study.manifest))


def test_targets_that_nobody_annotated_are_said(study):
    _redraw(study, "Tubule", keep=lambda split, stain: stain == "PAS" and split != "test")
    assert "nothing can be scored for it" in _said(study, "note", "classes={}")


def test_matched_classes_and_few_patients_are_notes(study):
    said = _said(study, "note", "classes={}")
    assert "classes matched by spelling: 'Glomerulus' is 'glomerulus'" in said
    assert "2 scored test patients" in said and "one validation patient" in said


def test_an_unlikely_pixel_size_names_the_column(study):
    text = study.manifest.read_text()
    rows = text.splitlines()
    place = rows[0].split(",").index("mpp")

    def sized(mpp):
        cells = [row.split(",") for row in rows]
        study.manifest.write_text(
            "\n".join(",".join([*c[:place], mpp, *c[place + 1 :]]) if i else rows[0] for i, c in enumerate(cells))
        )
        return _said(study, "note", "patches.downsample=null", "patches.mpp=4.0")

    assert "pixel size may be wrong" in sized("0.25") and "column mpp" in sized("0.25")  # 50 px are 12 µm
    assert "pixel size may be wrong" not in sized("2.0")
    assert "pixel size may be wrong" in sized("10.0")


def test_an_unknown_pixel_size_stops_a_physical_scale(study):
    said = _said(study, "stops", "patches.downsample=null", "patches.mpp=4.0")
    assert "pixel size of 12 slides is not known" in said and "column mpp" in said


@pytest.mark.parametrize("task", ["glomeruli_segmentation", "glomeruli_detection", "nuclei_detection"])
def test_sizes_of_a_task_in_micrometres_stop_slides_without_a_pixel_size_and_init_writes_pixels(
    laboratories, tmp_path, task
):
    written = write_start(propose(laboratories[4], task=task), tmp_path, "lab")
    config = load_study(written.study)
    stops = [str(finding) for finding in written.findings if finding.kind == "stops"]
    assert sizes_in_um(config.task) is None and not any("pixel size" in stop for stop in stops)
    if task == "nuclei_detection":
        assert config.task.object_px == pytest.approx(50, abs=1)  # the discs that were drawn
    else:
        assert config.task.min_object_px == pytest.approx(3.14 * 25**2 / 10, rel=0.03)
    text = written.study.read_text()
    start, end = text.index("task: "), text.index("\nrecipe:")
    written.study.write_text(f"{text[:start]}task: {task}{text[end:]}")
    said = "\n".join(str(one) for one in check_study(load_study(written.study)) if one.kind == "stops")
    assert "pixel size of 8 slides is not known" in said and "column mpp" in said and "_px in place of task." in said


def test_sections_alone_in_their_blocks_are_said(study):
    study.manifest.write_text(study.manifest.read_text().replace("_B1,3,", "_B1,3,").replace("_B1,4,", "_B2,4,"))
    assert "all blocks have a single section" in _said(study, "note")


def test_a_broken_annotation_is_said_with_its_row(study):
    path = study.manifest.parent / "lab" / "Centre A" / "2021-014_B1_03_PAS.geojson"
    path.write_text(json.dumps({"type": "Feature"})[:10])
    assert "row 2" in _said(study, "stops") and path.name in _said(study, "stops")
