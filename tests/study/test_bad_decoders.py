"""A slide whose decoder ends the process, hangs or takes all memory costs the study that slide, in every stage."""

from __future__ import annotations

import csv
import os

import numpy as np
import pandas as pd
import pytest
import tifffile
from faulty_decoders import SOUND, arm, with_faults
from interrupted_runs import Said, interrupted_by
from small_cohorts import QUICK_STUDY, make_tiff_cohort, write_rows, write_study
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.slides import contained
from stainda.study import looking
from stainda.study.bad_slides import LostSlidesError
from stainda.study.dispatch import run_study

TEXT = "study: bad\nstrategies: [source_only]\n" + QUICK_STUDY + "workers: 1\n"
SEGV = r"its decoder crashed (SIGSEGV)"


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """A manifest of ten slides, and a function that gives the file of one a fault and says how often it was tried."""
    for name, value in (("_child", contained._Child()), ("SECONDS", 4.0), ("MEMORY", 1 << 30)):
        monkeypatch.setattr(contained, name, value)
    tries = with_faults(monkeypatch, tmp_path / "hooks")
    manifest = make_tiff_cohort(tmp_path / "cohort")
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    def spoil(slide, fault):
        row = next(row for row in rows if row["slide"] == slide)
        old = manifest.parent / row["path"]
        row["path"] = f"{fault}.tif"
        old.rename(manifest.parent / row["path"])
        write_rows(rows, manifest)
        return lambda: tries(manifest.parent / row["path"])

    yield manifest, spoil
    contained._child.stop()


def new_process():
    """As in another call of the command."""
    contained._child.stop()
    contained._child = contained._Child()
    looking._known_sound.clear()
    looking._look.cache_clear()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("SIGSEGV opened", SEGV),
        ("SIGABRT read", r"its decoder crashed (SIGABRT)"),
        ("hang read", "its decoder took longer than 4 s and was stopped"),
        ("memory opened", "its decoder needs more than 1 GB of memory"),
    ],
)
def test_the_slide_is_left_out_with_its_row_and_reason(fault, reason, cohort, tmp_path):
    manifest, spoil = cohort
    tries, said = spoil("P4_SR", fault), Said()
    study = write_study(manifest, tmp_path / "study.yaml", TEXT)
    before = sorted(path for path in tmp_path.rglob("*") if "hooks" not in path.parts)
    for _ in range(2):
        root = run_study(study, tmp_path / "run", until="patches", progress=said)
        listed = pd.read_csv(root / "slide_files.csv", keep_default_na=False).set_index("slide")
        assert listed.loc["P4_SR", "state"] == "left out" and reason in listed.loc["P4_SR", "reason"]
        assert (listed.drop("P4_SR")["state"] == "used").all()
        assert "P4_SR" not in set(pd.read_csv(root / "cohort.csv")["slide"])
        new_process()
    left_out = [text for text in said.messages if text.startswith("left out: row 11 (P4_SR): ")]
    assert len(left_out) == 2 and all(reason in text for text in left_out)
    hangs = fault.startswith("hang")  # that may have been the machine: it is tried again by the second call
    assert tries() == 2
    outside = [path for path in tmp_path.rglob("*") if "hooks" not in path.parts and root not in (path, *path.parents)]
    assert sorted(outside) == before, "nothing but the run directory is written to"
    assert hangs or not any(text.startswith("note: ") and "goes on" in text for text in said.messages)


def test_sound_slides_are_not_looked_at_by_the_second_call(cohort, tmp_path, monkeypatch):
    manifest, _ = cohort
    study = write_study(manifest, tmp_path / "study.yaml", TEXT)
    run_study(study, tmp_path / "run", until="cohort")
    new_process()
    monkeypatch.setattr("stainda.slides.Slide.read", lambda *_: pytest.fail("a slide was looked at"))
    run_study(study, tmp_path / "run", until="cohort")
    new_process()
    monkeypatch.setattr(looking, "LOOKED_AT", 0)  # as with other versions of the libraries
    with pytest.raises(BaseException, match="a slide was looked at"):
        run_study(study, tmp_path / "run", until="cohort")


def test_a_slide_that_is_copied_again_is_used(cohort, tmp_path):
    manifest, spoil = cohort
    spoil("P4_SR", "SIGSEGV opened")
    study, said = write_study(manifest, tmp_path / "study.yaml", TEXT), Said()
    run_study(study, tmp_path / "run", until="cohort", progress=said)
    path = manifest.parent / "SIGSEGV opened.tif"
    tifffile.imwrite(path, np.full((256, 256, 3), 200, np.uint8), tile=(64, 64), photometric="rgb", compression="zlib")
    os.utime(path, (SOUND, SOUND))
    new_process()
    run_study(study, tmp_path / "run", until="cohort", progress=said)
    assert "P4_SR: left out by the call before, used again; what depends on it is made anew" in said.messages


def test_a_strict_study_ends_with_one_error(cohort, tmp_path):
    manifest, spoil = cohort
    spoil("P4_SR", "SIGSEGV read")
    study = write_study(manifest, tmp_path / "study.yaml", TEXT)
    with pytest.raises(LostSlidesError) as caught:
        run_study(study, tmp_path / "run", overrides=["on_bad_slide=stop"])
    text = str(caught.value)
    assert "1 of 10 slides cannot be read: row 11 (P4_SR)" in text and SEGV in text and "on_bad_slide" in text


@pytest.mark.parametrize(
    ("after", "until", "slide", "workers"),
    [
        ("gather", "patches", "P1_SR", 1),  # registration reads it
        ("propagate", "patches", "P1_SR", 1),  # patches are cut in the process of the run
        ("propagate", "patches", "P1_SR", 2),  # in processes of their own
        ("cut_patches", "evaluate", "P4_SR", 1),  # a training is scored on it
    ],
)
def test_a_decoder_that_ends_its_process_in_a_later_stage_costs_the_slide(
    after, until, slide, workers, cohort, tmp_path, monkeypatch
):
    manifest, spoil = cohort
    tries, said = spoil(slide, "SIGSEGV armed"), Said()
    interrupted_by(monkeypatch, after, lambda: arm(tmp_path / "hooks"))
    study = write_study(manifest, tmp_path / "study.yaml", TEXT.replace("workers: 1", f"workers: {workers}"))
    root = run_study(study, tmp_path / "run", until=until, progress=said)
    row = 5 if slide == "P1_SR" else 11
    assert tries() and any(text.startswith(f"left out: row {row} ({slide})") and SEGV in text for text in said.messages)
    assert slide not in set(pd.read_parquet(root / "patches" / "table.parquet")["slide"])
    if until == "evaluate":
        assert (pd.read_csv(root / "trials.csv")["state"] == "complete").all()
        assert slide not in set(pd.read_parquet(root / "records.parquet")["slide"])


def test_a_check_of_a_manifest_names_the_slide(cohort):
    manifest, spoil = cohort
    spoil("P4_SR", "SIGSEGV read")
    result = CliRunner().invoke(app, ["manifest", "check", str(manifest)], env={"COLUMNS": "400"})
    assert result.exit_code == 2 and "1 faults" in result.output and SEGV in " ".join(result.output.split())
