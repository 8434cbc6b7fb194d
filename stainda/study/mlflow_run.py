"""Trainings as runs of MLflow: parameters, and the curves of :mod:`stainda.study.tracking` while they train.

Runs are copies, on which no record depends: where the tracking server does not answer, points wait for the next epoch,
and the training goes on. The opt-out of MLflow's telemetry is set before MLflow is imported.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stainda.errors import MissingDependencyError, StaindaError
from stainda.files import load_json, write_json
from stainda.run_directory.contents import MLFLOW_ARTIFACTS, MLFLOW_RUN, MLFLOW_STORE, RESUME_REST
from stainda.study.storage import sqlite_address

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from stainda.training import Job

Ended = Literal["complete", "pruned", "failed"]

HASH_TAG = "stainda.training"
"""Tag of a run of MLflow: the hash of the training."""

_STATUS: dict[Ended, str] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
_PROSE = ("title", "description", "reference", "space", "weights_source", "weights_missing")
_METRICS_OF_A_CALL, _PARAMETERS_OF_A_CALL, _LONGEST = 1000, 100, 500

logger = logging.getLogger(__name__)


def check_mlflow(root: Path, uri: str, study: str) -> None:
    """Open the store, and make the experiment of the study, before anything is trained.

    Args:
        root: the run directory. uri: ``mlflow_uri``; empty: a store in the run directory.

    Raises:
        MissingDependencyError: mlflow-skinny is not installed.
        StaindaError: the store does not answer, or the experiment was deleted in it.
    """
    with _errors(uri):
        _experiment(_client(root, uri), root, uri, study)


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    """Import MLflow with its telemetry off, and say what its store does not do. All calls of MLflow go through here."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise MissingDependencyError(
            f"log_to: mlflow needs mlflow-skinny ({error})", remedy="pip install 'stainda[mlflow]'"
        ) from error
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise StaindaError(
            f"MLflow's store {uri or 'of the run directory'} does not answer ({said})",
            remedy="Start its server, mend mlflow_uri, or set log_to to none",
        ) from error


def _client(root: Path, uri: str) -> MlflowClient:
    """A client of the store; one that does not answer is given up after seconds, since every epoch tries again."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not uri:
        path = MLFLOW_STORE.at(root.resolve())
        path.parent.mkdir(parents=True, exist_ok=True)
        uri = sqlite_address(path)
    return MlflowClient(tracking_uri=uri)


def _experiment(client: MlflowClient, root: Path, uri: str, study: str) -> str:
    """Its number; a server decides itself where artifacts lie."""
    if (known := client.get_experiment_by_name(study)) is not None:
        if known.lifecycle_stage != "active":
            raise StaindaError(
                f"the experiment {study!r} was deleted in MLflow",
                remedy="Restore it there (mlflow experiments restore), or rename the study",
            )
        return str(known.experiment_id)
    place = None if uri else MLFLOW_ARTIFACTS.at(root.resolve()).parent.as_uri()
    return str(client.create_experiment(study, artifact_location=place))


class MlflowRun:
    """The run of one training.

    A training that goes on after an interruption goes on in its run, and points that are there are not written again.
    One that begins anew has a new run, and its earlier one is deleted (it can be restored in MLflow).
    """

    def __init__(self, root: Path, uri: str, job: Job, folder: Path) -> None:
        self._root, self._uri, self._job, self._folder = root, uri, job, folder
        self._waiting: list[tuple[str, float, int, int]] = []  # name, value, milliseconds, step
        self._goes_on = RESUME_REST.inside(folder).is_file()
        self._client: MlflowClient | None = None
        self._run, self._last_steps = "", dict[str, int]()

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._waiting += [(_name(name), value, now, step) for name, value in scalars.items()]

    def flush(self) -> None:
        """Write what was added. What the store does not take is written by the next call."""
        try:
            with _errors(self._uri):
                from mlflow.entities import Metric

                client, points = self._opened(), [Metric(*point) for point in self._waiting]
                new = [point for point in points if point.step > self._last_steps.get(point.key, -1)]
                for start in range(0, len(new), _METRICS_OF_A_CALL):
                    client.log_batch(self._run, metrics=new[start : start + _METRICS_OF_A_CALL])
        except StaindaError as error:
            logger.warning("%d points of training %s wait: %s", len(self._waiting), self._job.hash, error)
        else:
            self._waiting.clear()

    def close(self, ended: Ended) -> None:
        self.flush()
        try:
            with _errors(self._uri):
                self._opened().set_terminated(self._run, _STATUS[ended])
        except StaindaError as error:
            logger.warning("MLflow does not know that training %s has ended: %s", self._job.hash, error)

    def _opened(self) -> MlflowClient:
        if self._client is None:
            client = _client(self._root, self._uri)
            if not self._taken_up(client):
                self._begin(client)
            self._client = client
        return self._client

    def _taken_up(self, client: MlflowClient) -> bool:
        """Go on in the run that this training had, if it goes on itself."""
        from mlflow.exceptions import MlflowException

        try:
            known = load_json(MLFLOW_RUN.inside(self._folder))
        except (OSError, ValueError):  # there is none
            return False
        if known.get("uri") != self._uri:
            return False
        try:
            run = client.get_run(known["run"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        if run.info.lifecycle_stage != "active":
            return False
        if not self._goes_on:
            client.delete_run(run.info.run_id)
            return False
        self._run = run.info.run_id
        client.update_run(self._run, status="RUNNING")
        for name in run.data.metrics:
            self._last_steps[name] = max(point.step for point in client.get_metric_history(self._run, name))
        return True

    def _begin(self, client: MlflowClient) -> None:
        from mlflow.entities import Param

        job, root = self._job, self._root
        experiment = _experiment(client, root, self._uri, job.study)
        name = f"{job.strategy.name} seed {job.seed} {job.hash}"
        self._run = client.create_run(experiment, tags={HASH_TAG: job.hash}, run_name=name).info.run_id
        parameters = [Param(name, value) for name, value in parameters_of(job).items()]
        for start in range(0, len(parameters), _PARAMETERS_OF_A_CALL):
            client.log_batch(self._run, params=parameters[start : start + _PARAMETERS_OF_A_CALL])
        write_json(MLFLOW_RUN.inside(self._folder), {"uri": self._uri, "run": self._run})


def parameters_of(job: Job) -> dict[str, str]:
    """Strategy, seed, sources, targets and all settings with a value, flattened: ``training.learning_rate``,
    ``strategy.augment.0.name``; prose is left out."""
    settings = job.settings()
    plain = {
        "strategy": job.strategy.name, "seed": job.seed,
        "sources": ", ".join(job.sources), "targets": ", ".join(job.targets),
    }  # fmt: skip
    values = {key: settings[key] for key in ("strategy", "model", "training", "task", "without", "repeats")}
    flat = {name: value for name, value in _flattened("", values) if value not in (None, "")}
    return {_name(name): str(value)[:_LONGEST] for name, value in {**flat, **plain}.items()}


def _flattened(prefix: str, values: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping | list):
        items = values.items() if isinstance(values, Mapping) else enumerate(values)
        for key, value in items:
            if key not in _PROSE:
                yield from _flattened(f"{prefix}.{key}" if prefix else str(key), value)
    else:
        yield prefix, values


def _name(text: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w./ :-]", "_", text)[:250]
