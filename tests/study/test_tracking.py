"""Curves for TensorBoard: what a training writes anyway, and nothing of a run depends on them."""

import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
from test_batches_of_trials import COSTS, prepared  # noqa: F401 (a fixture)

from stainda.config import StrategyConfig, TrainingConfig
from stainda.errors import MissingDependencyError
from stainda.study import run_study, tracking
from stainda.study.tracking import curves
from stainda.training.schedule import rate_factor

TRAINING = TrainingConfig(epochs=2, steps_per_epoch=10, learning_rate=0.01, schedule="cosine")
JOB = SimpleNamespace(strategy=StrategyConfig(name="dann"), seed=3, hash="abc", training=TRAINING)
EPOCHS = ["1,10,0.5,0.25,{},0.9,", "2,20,1.0,0.5,{},0.7,0.1"]


def _request(root, log_to, job=JOB):
    return SimpleNamespace(log_to=log_to, job=job, folder=SimpleNamespace(root=root))


def _read(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {name: [(e.step, round(e.value, 6)) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def _write(folder, epochs):
    header = "epoch,step,seconds,val_dice,val_patients,loss_task,loss_domain\n"
    (folder / "training.csv").write_text(header + "\n".join(epochs) + "\n")


def _follow(tmp_path, folder):
    with curves(_request(tmp_path, "tensorboard"), folder) as write:
        for count in (1, 2):
            _write(folder, EPOCHS[:count])
            write()
        (folder / "effect.csv").write_text(
            "step,gradient_ratio,discriminator,discriminator_accuracy\n5,0.4,layer4,0.9\n"
        )


def test_curves_are_those_of_the_tables(tmp_path):
    pytest.importorskip("tensorboard")
    folder = tmp_path / "jobs" / "abc"
    folder.mkdir(parents=True)
    for _ in range(2):  # a training made again writes them anew, not twice
        _follow(tmp_path, folder)
    (place,) = (tmp_path / "tensorboard").iterdir()
    assert place.name == "dann seed 3 abc"
    seen = _read(place)
    assert seen["loss/task"] == [(10, 0.9), (20, 0.7)] and seen["loss/domain"] == [(20, 0.1)]
    assert seen["validation/dice"] == [(10, 0.25), (20, 0.5)]
    rates = [0.01 * rate_factor("cosine", share) for share in (9 / 20, 19 / 20)]
    assert [value for _, value in seen["learning_rate"]] == pytest.approx(rates, abs=1e-6)
    assert seen["alignment/gradient_ratio"] == [(5, 0.4)]
    assert seen["alignment/discriminator_accuracy layer4"] == [(5, 0.9)]


def test_nothing_is_written_where_nothing_is_wanted(tmp_path):
    with curves(_request(tmp_path, "none"), tmp_path) as write:
        write()
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_the_command_that_brings_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stainda\[tensorboard\]'"):
        tracking.check_log(SimpleNamespace(log_to="tensorboard"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("log_to", ["tensorboard", "mlflow"])
def test_records_are_the_same_with_curves(prepared, tmp_path, log_to):  # noqa: F811
    pytest.importorskip(log_to)
    study, patches = prepared
    results = []
    for name in ("none", log_to):
        out = tmp_path / name
        shutil.copytree(patches, out)
        overrides = ["search={trials: 2, batch: 2}", f"log_to={name}", "workers=2"]
        run_study(study, out, overrides=overrides, until="evaluate")
        results.append((pd.read_parquet(out / "records.parquet"), pd.read_csv(out / "trials.csv").drop(columns=COSTS)))
    for without, with_curves in zip(*results, strict=True):
        pd.testing.assert_frame_equal(with_curves, without, check_exact=True)
    if log_to == "tensorboard":
        curves_of_all = [_read(place) for place in (out / "tensorboard").iterdir()]
    else:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{out}/mlflow/mlflow.db")
        runs = client.search_runs([client.get_experiment_by_name("batches").experiment_id])
        assert {run.data.tags["stainda.training"] for run in runs} == set(results[1][1]["job"])
        curves_of_all = [run.data.metrics for run in runs]
    assert len(curves_of_all) == 2
    assert all({"validation/dice", "learning_rate"} <= set(each) for each in curves_of_all)
