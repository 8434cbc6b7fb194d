"""A study with a pruner and two searched settings, from end to end: what is pruned stays so, whoever runs it again."""

import json
import shutil

import pandas as pd
import pytest
from declared_files import faults_of_run
from small_cohorts import write_study

from stainda.config import load_study
from stainda.run_directory.folder import RunFolder
from stainda.study import run_study
from stainda.study.compare import _Comparison
from stainda.study.jobs import run_job
from stainda.study.run import StudyRun

CHANGES = [
    "workers=1", "strategies=[source_only]", "ceiling=source_only", "protocol.seeds=1", "search.trials=5",
    "search.pruner=median", "search.startup_trials=2", "training.epochs=4", "training.steps_per_epoch=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def pruned_study(blob_manifest, tmp_path_factory):
    """The study file and its run directory. Copy the directory before changing it."""
    folder = tmp_path_factory.mktemp("pruned")
    study = write_study(blob_manifest, folder / "blobs.yaml")
    study.write_text(study.read_text().replace("{default: 5.0e-3, low: 1.0e-3", "{default: 1.0e-2, low: 1.0e-6"))
    return study, run_study(study, folder / "run", overrides=CHANGES, until="evaluate")


@pytest.mark.slow
def test_pruned_trials_are_told_and_not_trained_again(pruned_study):
    study, run = pruned_study
    trials = pd.read_csv(run / "trials.csv")
    assert len(trials) == 5 and set(trials["state"]) == {"complete", "pruned"}
    assert faults_of_run(run) == [] and list(run.glob("jobs/*/pruned.json"))
    pruned = trials[trials["state"] == "pruned"]
    assert (pruned["stopped_step"] < 8).all() and pruned["value"].isna().all() and not pruned["chosen"].any()
    assert (trials["trial"][trials["state"] == "complete"].isin([0, 1])).sum() == 2, "the first two cannot be pruned"
    records = pd.read_parquet(run / "records.parquet")
    assert not set(records["job"]) & set(pruned["job"])
    slices = pd.read_csv(run / "search" / "slices.csv")
    assert set(slices["trial"]) == set(trials.loc[trials["state"] == "complete", "trial"])
    before = {path: path.stat().st_mtime_ns for path in (run / "jobs").rglob("*") if path.is_file()}
    run_study(study, run, overrides=CHANGES, until="evaluate")
    assert {path: path.stat().st_mtime_ns for path in (run / "jobs").rglob("*") if path.is_file()} == before
    pd.testing.assert_frame_equal(pd.read_csv(run / "trials.csv"), trials)


@pytest.mark.slow
def test_a_pruned_trial_stays_so_when_a_later_one_of_its_settings_was_trained_to_its_end(pruned_study, tmp_path):
    study, _ = pruned_study
    run = tmp_path / "run"
    shutil.copytree(pruned_study[1], run)
    trials = pd.read_csv(run / "trials.csv")
    row = trials[trials["state"] == "pruned"].iloc[0]
    config = load_study(study, CHANGES)
    stages = StudyRun(config, RunFolder(run))
    comparison = _Comparison(config, stages.cohort, stages.roles, stages.folder)
    planned = comparison._plan(comparison.courses[0], int(row["trial"]), config.seed, json.loads(row["params"]))
    assert planned.job.hash == row["job"]
    run_job(row["job"], comparison._request(planned))
    assert (run / "jobs" / row["job"] / "records.parquet").is_file()
    run_study(study, run, overrides=CHANGES, until="train")
    pd.testing.assert_frame_equal(pd.read_csv(run / "trials.csv"), trials)
    changed = [*CHANGES, "search.pruner=none"]
    run_study(study, run, overrides=changed, until="train")
    assert set(pd.read_csv(run / "trials.csv")["state"]) == {"complete"}, "nothing ends it any more"
