"""A run killed at any moment and started again ends with the records of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from small_cohorts import write_study

COMMAND = [sys.executable, "-c", "from stainda.cli import main; main()", "run"]
COSTS = ["seconds", "cpu_seconds", "peak_memory_mib", "peak_gpu_memory_mib", "cpu_energy_wh", "gpu_energy_wh"]


def _start(study: Path, out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, study, "--out", out, "--quiet", "strategies=[source_only, dann]", "ceiling=source_only"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def _records(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "records.parquet")


def _kill_and_compare(study: Path, folder: Path, kills: int, seed: int) -> None:
    whole = _start(study, folder / "whole")
    started = time.monotonic()
    assert whole.wait(timeout=400) == 0, whole.stderr.read()
    seconds = time.monotonic() - started
    rng = random.Random(seed)
    for _ in range(kills):
        process = _start(study, folder / "killed")
        time.sleep(rng.uniform(0.2, 0.9) * seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    last = _start(study, folder / "killed")
    assert last.wait(timeout=400) == 0, last.stderr.read()
    pd.testing.assert_frame_equal(_records(folder / "killed"), _records(folder / "whole"))
    pd.testing.assert_frame_equal(
        pd.read_csv(folder / "killed" / "trials.csv").drop(columns=COSTS),
        pd.read_csv(folder / "whole" / "trials.csv").drop(columns=COSTS),
    )
    assert not list((folder / "killed").rglob(".stainda-*")), "half-written files were left behind"


def test_killed_once(blob_manifest, tmp_path):
    _kill_and_compare(write_study(blob_manifest, tmp_path / "blobs.yaml"), tmp_path, kills=1, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(blob_manifest, tmp_path, seed):
    _kill_and_compare(write_study(blob_manifest, tmp_path / "blobs.yaml"), tmp_path, kills=6, seed=seed)
