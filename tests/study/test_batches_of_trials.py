"""Trials drawn in batches: records do not depend on how many workers train them."""

import shutil

import pandas as pd
import pytest
from small_cohorts import QUICK_STUDY, write_study

from stainda.study import run_study

COSTS = ["seconds", "cpu_seconds", "peak_memory_mib", "peak_gpu_memory_mib", "cpu_energy_wh", "gpu_energy_wh"]
STUDY = "study: batches\nstrategies: [source_only]\nceiling: source_only\n" + QUICK_STUDY.replace(
    "search: {{trials: 1}}", "search: {{trials: 4, sampler: tpe}}"
).replace("batch_size: 4", "batch_size: 4, learning_rate: {{default: 5.0e-3, low: 1.0e-3, high: 1.0e-2, log: true}}")


@pytest.fixture(scope="module")
def prepared(blob_manifest, tmp_path_factory):
    """The study, and a run directory with its patches."""
    folder = tmp_path_factory.mktemp("batches")
    study = write_study(blob_manifest, folder / "study.yaml", STUDY)
    return study, run_study(study, folder / "run", until="patches")


def _trained(prepared, out, batch, workers):
    study, patches = prepared
    shutil.copytree(patches, out)
    run_study(study, out, overrides=[f"search.batch={batch}", f"workers={workers}"], until="evaluate")
    return pd.read_parquet(out / "records.parquet"), pd.read_csv(out / "trials.csv").drop(columns=COSTS)


@pytest.mark.parametrize(
    "batch, more", [(2, (2,)), *(pytest.param(batch, (2, 4), marks=pytest.mark.slow) for batch in (1, 2))]
)
def test_records_are_the_same_with_any_number_of_workers(prepared, tmp_path, batch, more):
    records, trials = _trained(prepared, tmp_path / "1", batch, 1)
    assert len(trials) == 4 and trials["params"].nunique() == 4
    for workers in more:
        others, other_trials = _trained(prepared, tmp_path / str(workers), batch, workers)
        pd.testing.assert_frame_equal(others, records, check_exact=True)
        pd.testing.assert_frame_equal(other_trials, trials, check_exact=True)
