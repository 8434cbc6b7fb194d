"""A slide that cannot be read costs the study that slide, with a row and a reason; slides that change are noticed."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from interrupted_runs import Said, interrupted_by
from small_cohorts import QUICK_STUDY, make_tiff_cohort, write_study

from stainda.cli.status import status as show_status
from stainda.config import load_study
from stainda.errors import ConfigError, SlideError, StaindaError
from stainda.study.answerable import check_study
from stainda.study.bad_slides import LostSlidesError
from stainda.study.dispatch import run_study
from stainda.study.status import read_status

TEXT = "study: bad\nstrategies: [source_only]\n" + QUICK_STUDY + "workers: 1\n"


@pytest.fixture
def cohort(tmp_path):
    return make_tiff_cohort(tmp_path / "cohort")


def study_of(cohort, tmp_path, text=TEXT):
    return write_study(cohort, tmp_path / "study.yaml", text)


def slides_of(root):
    return pd.read_csv(root / "slide_files.csv", keep_default_na=False).set_index("slide")


def cut_short(path):
    os.truncate(path, path.stat().st_size * 2 // 3)


def other_header(path):
    path.write_bytes(b"MM\0*\xff\xff\xff\xff" + path.read_bytes()[8:])


def no_picture(path):
    path.write_text("this is no slide")


@pytest.mark.parametrize("spoil", [cut_short, other_header, no_picture, Path.unlink], ids=lambda one: one.__name__)
def test_a_bad_slide_is_left_out_with_its_row_and_reason(spoil, cohort, tmp_path):
    spoil(cohort.parent / "P4_SR.tif")
    said = Said()
    root = run_study(study_of(cohort, tmp_path), tmp_path / "run", until="patches", progress=said)
    assert any(text.startswith("left out: row 11 (P4_SR): ") for text in said.messages)
    states = slides_of(root)["state"]
    assert states["P4_SR"] == "left out" and (states.drop("P4_SR") == "used").all()
    assert "P4_SR" not in set(pd.read_csv(root / "cohort.csv")["slide"])


def test_a_bad_slide_is_named_by_a_check_of_the_study(cohort, tmp_path):
    cut_short(cohort.parent / "P4_SR.tif")
    findings = [str(finding) for finding in check_study(load_study(study_of(cohort, tmp_path)))]
    [note] = [finding for finding in findings if "P4_SR" in finding]
    assert note.startswith("left out: row 11")


def test_splits_of_the_others_stay_as_they_are(cohort, tmp_path):
    text = cohort.read_text()
    for name in ("train", "val", "test"):
        text = text.replace(f",{name}\n", ",\n").replace(f",{name}\r\n", ",\r\n")
    cohort.write_text(text)
    study = study_of(cohort, tmp_path)
    before = pd.read_csv(run_study(study, tmp_path / "all", until="cohort") / "cohort.csv").set_index("slide")["split"]
    lost = before[before == "test"].index[0].split("_")[0]
    (cohort.parent / f"{lost}_PAS.tif").unlink()
    after = pd.read_csv(run_study(study, tmp_path / "less", until="cohort") / "cohort.csv").set_index("slide")["split"]
    assert len(after) == len(before) - 1 and after.equals(before[after.index])


def test_a_study_may_be_strict(cohort, tmp_path):
    cut_short(cohort.parent / "P4_SR.tif")
    with pytest.raises(LostSlidesError, match=r"row 11 \(P4_SR\).*cut short"):
        run_study(study_of(cohort, tmp_path), tmp_path / "run", overrides=["on_bad_slide=stop"])


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        (["P0_PAS", "P1_PAS"], "no patient of the source domains .PAS@A. is in 'train'"),
        (["P2_PAS"], "no patient of the source domains .PAS@A. is in 'val'"),
        (["P3_SR", "P4_SR"], "no patient of the target domain 'SR@A' is in 'test'"),
    ],
)
def test_what_is_left_must_answer_the_study(gone, reason, cohort, tmp_path):
    for name in gone:
        (cohort.parent / f"{name}.tif").unlink()
    with pytest.raises(ConfigError, match=f"without the slides that cannot be read, {reason}.*{gone[0]}"):
        run_study(study_of(cohort, tmp_path), tmp_path / "run")


def test_a_domain_that_is_gone_as_a_whole_is_not_passed_over(cohort, tmp_path):
    cohort.write_text(cohort.read_text().replace(",SR,A,", ",SR,B,", 4))  # the fifth is another domain
    rows = list(csv.DictReader(cohort.open()))
    assert [row["centre"] for row in rows if row["stain"] == "SR"] == ["B"] * 4 + ["A"]
    (cohort.parent / "P4_SR.tif").unlink()
    with pytest.raises(ConfigError, match="no patient of the target domain 'SR@A' is in 'test'"):
        run_study(study_of(cohort, tmp_path), tmp_path / "run", until="cohort")


def test_a_folder_that_is_not_there_is_no_heap_of_bad_slides(cohort, tmp_path):
    for path in sorted(cohort.parent.glob("*.tif"))[:6]:
        path.unlink()
    with pytest.raises(StaindaError, match=r"6 of 10 slides cannot be read.*--data FOLDER"):
        run_study(study_of(cohort, tmp_path), tmp_path / "run")


def damaged_inside(path):
    """Its tables and sizes are those of a whole slide; a tile of the full resolution, away from its middle, is not."""
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[13], file.pages[0].databytecounts[13]
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * count)


def test_damage_that_shows_when_patches_are_cut_costs_the_slide_too(cohort, tmp_path):
    damaged_inside(cohort.parent / "P0_SR.tif")
    said = Said()
    root = run_study(study_of(cohort, tmp_path), tmp_path / "run", until="patches", progress=said)
    assert any("goes on without them" in text and "P0_SR" in text for text in said.messages)
    assert slides_of(root).loc["P0_SR", "state"] == "left out"
    assert "P0_SR" not in set(pd.read_parquet(root / "patches" / "table.parquet")["slide"])


def patches_of(root):
    return pd.read_parquet(root / "patches" / "table.parquet"), np.load(root / "patches" / "images.npy")


def same_patches(one, two):
    (first, images), (second, others) = patches_of(one), patches_of(two)
    pd.testing.assert_frame_equal(first, second)
    assert np.array_equal(images, others)


@pytest.mark.parametrize("stage", ["register", "propagate"])
def test_a_slide_deleted_in_mid_study_is_noticed_and_left_out(stage, cohort, tmp_path, monkeypatch):
    interrupted_by(monkeypatch, stage, (cohort.parent / "P1_SR.tif").unlink)
    said, study = Said(), study_of(cohort, tmp_path)
    root = run_study(study, tmp_path / "run", until="patches", progress=said)
    assert any("P1_SR" in text and "there is no such file" in text for text in said.messages)
    assert "P1_SR" not in set(pd.read_csv(root / "cohort.csv")["slide"])
    same_patches(root, run_study(study, tmp_path / "clean", until="patches"))


def test_slides_lost_while_trainings_go_on_are_in_no_record_and_named_everywhere(cohort, tmp_path, monkeypatch, capsys):
    damaged_inside(cohort.parent / "P4_SR.tif")  # scored, and in no patch
    interrupted_by(monkeypatch, "train", (cohort.parent / "P3_PAS.tif").unlink)
    study = study_of(cohort, tmp_path)
    root = run_study(study, tmp_path / "run")
    records = pd.read_parquet(root / "records.parquet")
    assert set(records["slide"]) == {"P2_PAS", "P3_SR", "P4_PAS"}
    assert (pd.read_csv(root / "trials.csv")["state"] == "complete").all()
    assert len(list((root / "jobs").iterdir())) == 1, "no training saw the slides, so none is made again"
    log, page = (root / "stainda.log").read_text(), (root / "report" / "index.html").read_text()
    show_status(root)
    shown = capsys.readouterr().out
    table = pd.read_csv(root / "report" / "tables" / "left_out.csv")
    rows = table[table["stage"] == "cohort"].set_index("what")
    for row, slide in ((8, "P3_PAS"), (11, "P4_SR")):
        assert f"row {row} ({slide})" in log
        assert f"left out: slide {slide}" in shown and slide in read_status(root).left_out
        assert rows.loc[f"slide {slide} (row {row} of the manifest)", "status"] == "left out"
        assert f"{slide} (row {row} of the manifest)" in page


def repainted(path):
    image = 255 - tifffile.imread(path)
    tifffile.imwrite(path, image, tile=(64, 64), photometric="rgb", compression="zlib")


@pytest.mark.parametrize("stage", ["register", "propagate"])
def test_a_slide_changed_in_mid_study_stops_it_and_the_next_call_mixes_nothing(stage, cohort, tmp_path, monkeypatch):
    path, study = cohort.parent / "P1_SR.tif", study_of(cohort, tmp_path)
    interrupted_by(monkeypatch, stage, lambda: repainted(path))
    with pytest.raises(SlideError, match=r"1 slides changed while the study ran: row 5 \(P1_SR\).*Run the same"):
        run_study(study, tmp_path / "run", until="patches")
    said = Said()
    root = run_study(study, tmp_path / "run", until="patches", progress=said)
    assert "P1_SR: changed since the call before; what depends on it is made anew" in said.messages
    same_patches(root, run_study(study, tmp_path / "clean", until="patches"))


def test_a_copy_with_another_time_is_no_change(cohort, tmp_path, monkeypatch):
    interrupted_by(monkeypatch, "register", lambda: os.utime(cohort.parent / "P4_SR.tif", (1e9, 1e9)))
    said = Said()
    for _ in range(2):
        run_study(study_of(cohort, tmp_path), tmp_path / "run", until="propagate", progress=said)
    assert not any("changed" in text for text in said.messages)


def test_a_slide_that_comes_back_is_used_again(cohort, tmp_path):
    path, kept = cohort.parent / "P4_SR.tif", tmp_path / "kept.tif"
    shutil.move(path, kept)
    said = Said()
    run_study(study_of(cohort, tmp_path), tmp_path / "run", until="cohort", progress=said)
    shutil.move(kept, path)
    root = run_study(study_of(cohort, tmp_path), tmp_path / "run", until="cohort", progress=said)
    assert any("P4_SR: left out by the call before, used again" in text for text in said.messages)
    assert (slides_of(root)["state"] == "used").all()


def test_rotations_go_on_without_a_bad_slide(cohort, tmp_path):
    (cohort.parent / "P4_SR.tif").unlink()
    text = TEXT.replace("sources: [PAS@A], ", "scheme: all_pairs, ")
    root = run_study(study_of(cohort, tmp_path, text), tmp_path / "run", until="patches")
    folders = list((root / "rotations").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert "P4_SR" not in set(pd.read_csv(folder / "cohort.csv")["slide"])
        assert slides_of(folder).loc["P4_SR", "state"] == "left out"
