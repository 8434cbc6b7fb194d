"""Trainings as runs of MLflow: read back from its store, which lies in the run directory."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from stainda.config import StudyConfig
from stainda.errors import MissingDependencyError, StaindaError
from stainda.study import mlflow_run, tracking
from stainda.study.pruning import PrunedError
from stainda.study.tracking import curves

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from blob_cohort import make_job

HEADER = "epoch,step,seconds,val_dice,val_patients,loss_task,loss_domain\n"
EPOCHS = ["1,10,0.5,0.25,{},0.9,", "2,20,1.0,0.5,{},0.7,0.1"]
JOB = make_job(epochs=2, steps_per_epoch=10, learning_rate=0.01)
POINTS = {"loss/task": [(10, 0.9), (20, 0.7)], "loss/domain": [(20, 0.1)], "validation/dice": [(10, 0.25), (20, 0.5)]}

pytest.importorskip("mlflow")


@pytest.fixture
def request_of_a_job(tmp_path, monkeypatch):
    """In a run directory; the home and the working folder are others."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    root = tmp_path / "run"
    (root / "jobs" / JOB.hash).mkdir(parents=True)
    yield SimpleNamespace(log_to="mlflow", mlflow_uri="", job=JOB, folder=SimpleNamespace(root=root))
    assert not list(elsewhere.iterdir())


def _train(request, epochs=(1, 2), ends_with=None):
    folder = request.folder.root / "jobs" / JOB.hash
    with curves(request, folder) as write:
        for count in epochs:
            (folder / "training.csv").write_text(HEADER + "\n".join(EPOCHS[:count]) + "\n")
            write()
        if ends_with is not None:
            raise ends_with


def _client(request):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{request.folder.root}/mlflow/mlflow.db")


def _runs(request):
    client = _client(request)
    return client.search_runs([client.get_experiment_by_name(JOB.study).experiment_id])


def _points(request, run):
    client = _client(request)
    names = [name for name in run.data.metrics if name != "learning_rate"]
    return {name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)] for name in names}


def test_points_and_settings_arrive_in_the_run_directory_alone(request_of_a_job):
    _train(request_of_a_job)
    (run,) = _runs(request_of_a_job)
    assert _points(request_of_a_job, run) == POINTS
    assert run.data.tags["stainda.training"] == JOB.hash and run.info.status == "FINISHED"
    shown = run.data.params
    assert (shown["strategy"], shown["seed"], shown["targets"]) == (JOB.strategy.name, str(JOB.seed), "SR@A")
    assert shown["training.learning_rate"] == "0.01" and shown["strategy.view.name"] == "rgb"
    root = request_of_a_job.folder.root
    assert run.info.artifact_uri.startswith((root / "mlflow" / "artifacts").as_uri())
    assert [path.name for path in (root / "mlflow").iterdir()] == ["mlflow.db"]


def test_a_training_that_goes_on_does_so_in_its_run(request_of_a_job):
    with pytest.raises(KeyboardInterrupt):
        _train(request_of_a_job, epochs=(1,), ends_with=KeyboardInterrupt())
    (first,) = _runs(request_of_a_job)
    assert first.info.status == "FAILED"
    (request_of_a_job.folder.root / "jobs" / JOB.hash / "resume.json").write_text("{}")
    _train(request_of_a_job)
    (run,) = _runs(request_of_a_job)
    assert run.info.run_id == first.info.run_id and run.info.status == "FINISHED"
    assert _points(request_of_a_job, run) == POINTS


def test_a_training_made_anew_has_a_run_of_its_own(request_of_a_job):
    with pytest.raises(PrunedError):
        _train(request_of_a_job, epochs=(1,), ends_with=PrunedError())
    (first,) = _runs(request_of_a_job)
    assert first.info.status == "KILLED"
    _train(request_of_a_job)
    (run,) = _runs(request_of_a_job)
    assert run.info.run_id != first.info.run_id and _points(request_of_a_job, run) == POINTS


def test_points_wait_while_the_store_does_not_answer(request_of_a_job, monkeypatch, caplog):
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    whole, calls = MlflowClient.log_batch, []

    def sometimes(self, run, metrics=(), **more):
        calls.append(len(metrics))
        if metrics and sum(map(bool, calls)) == 1:
            raise MlflowException("database is locked")
        whole(self, run, metrics=metrics, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", sometimes)
    with caplog.at_level(logging.WARNING):
        _train(request_of_a_job)
    assert "database is locked" in caplog.text
    (run,) = _runs(request_of_a_job)
    assert _points(request_of_a_job, run) == POINTS


def test_a_server_that_does_not_answer_is_said_before_training(request_of_a_job, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = SimpleNamespace(log_to="mlflow", mlflow_uri="http://127.0.0.1:9", study="a")
    with pytest.raises(StaindaError, match=r"http://127.0.0.1:9 does not answer") as error:
        tracking.check_log(config, request_of_a_job.folder.root)
    assert "mlflow_uri" in error.value.remedy


def test_without_mlflow_the_command_that_brings_it_is_said(tmp_path, monkeypatch):
    for name in ("mlflow", "mlflow.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stainda\[mlflow\]'"):
        mlflow_run.check_mlflow(tmp_path, "", "a")


def test_an_address_with_a_password_is_refused():
    values = {"study": "a", "phantom": {}, "protocol": {"sources": ["PAS"]}, "task": {"classes": ["glomerulus"]}}
    with pytest.raises(ValidationError, match="MLFLOW_TRACKING_PASSWORD"):
        StudyConfig.model_validate({**values, "mlflow_uri": "http://me:secret@host:5000"})


def test_telemetry_is_off_before_mlflow_is_imported(tmp_path):
    code = (
        "import json, sys; from pathlib import Path; from stainda.study.mlflow_run import check_mlflow;"
        f"check_mlflow(Path({str(tmp_path)!r}), '', 'a');"
        "from mlflow.telemetry import client, utils;"
        "print(json.dumps([client.get_telemetry_client() is None, utils._IS_IN_CI_ENV_OR_TESTING]))"
    )
    environment = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}  # no mark of a test
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, False]
