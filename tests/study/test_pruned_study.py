"""A study with a pruner and two searched settings, from end to end: what is pruned stays so, whoever runs it again."""

import pandas as pd
import pytest
from declared_files import faults_of_run
from small_cohorts import write_study

from stainda.study import run_study

CHANGES = [
    "workers=1", "strategies=[source_only]", "ceiling=source_only", "protocol.seeds=1", "search.trials=5",
    "search.pruner=median", "search.startup_trials=2", "training.epochs=4", "training.steps_per_epoch=2",
]  # fmt: skip


@pytest.mark.slow
def test_pruned_trials_are_told_and_not_trained_again(blob_manifest, tmp_path):
    study = write_study(blob_manifest, tmp_path / "blobs.yaml")
    study.write_text(study.read_text().replace("{default: 5.0e-3, low: 1.0e-3", "{default: 1.0e-2, low: 1.0e-6"))
    run = run_study(study, tmp_path / "run", overrides=CHANGES, until="evaluate")
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
