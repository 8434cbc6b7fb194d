"""A study whose trainings have two processes each, and one of its trainings by torchrun."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from test_batches_of_trials import prepared  # noqa: F401 (a fixture)

from stainda.config import load_study
from stainda.errors import ConfigError
from stainda.study import run_study
from stainda.study.plan import plan_study

OVERRIDES = ["search={trials: 1}", "workers=1", "training.batch_size=4"]


@pytest.mark.parametrize("name", ["mldg", "mixstyle"])
def test_a_strategy_that_looks_across_the_batch_is_refused_before_any_work(name, tmp_path):
    strategies = f"strategies=[source_only, {name}]"
    sources = "protocol.sources=[PAS@A, JONES@A]"
    study = load_study("studies/small/phantom_strategies.yaml", ["training.devices=2", strategies, sources])
    with pytest.raises(ConfigError, match=rf"strategy {name}: training\.devices is 2, and") as error:
        plan_study(study, tmp_path / "run")
    assert "source_only fit" in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_study_trains_with_two_devices_and_torchrun_comes_to_the_same(prepared, tmp_path):  # noqa: F811
    study, patches = prepared
    records = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        shutil.copytree(patches, out)
        run_study(study, out, overrides=[*OVERRIDES, f"training.devices={devices}"], until="evaluate")
        records.append(pd.read_parquet(out / "records.parquet"))
    one, two = (table[table["measure"] == "dice"]["value"].to_numpy() for table in records)
    assert len(one) and one == pytest.approx(two, abs=0.02, nan_ok=True)

    (job,) = (tmp_path / "2" / "jobs").iterdir()
    by_hand = tmp_path / "by hand"
    shutil.copytree(patches, by_hand)
    folder = by_hand / "jobs" / job.name
    folder.mkdir(parents=True)
    shutil.copy(job / "settings.json", folder)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    module = ["-m", "stainda.training.over_machines", str(folder)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    wrong = subprocess.run([*command, "1", *module], capture_output=True, text=True, env=environment)
    assert wrong.returncode and "torchrun started 1 processes, and training.devices is 2" in wrong.stderr
    assert not (folder / "result.json").exists()
    done = subprocess.run([*command, "2", *module], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "last.safetensors", "view.json"):
        assert (folder / name).read_bytes() == (job / name).read_bytes(), name
