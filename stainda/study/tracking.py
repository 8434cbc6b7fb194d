"""Curves of trainings for TensorBoard or MLflow while they train: copies, on which no record and no name depends.

Everything is read from the tables that a training writes anyway, after each epoch.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stainda.errors import MissingDependencyError
from stainda.names import file_name
from stainda.run_directory.contents import EVENTS
from stainda.run_directory.training_tables import EFFECT, TRAINING
from stainda.study.mlflow_run import Ended, MlflowRun, check_mlflow
from stainda.study.pruning import PrunedError

if TYPE_CHECKING:
    from stainda.config import StudyConfig
    from stainda.study.job_request import JobRequest
    from stainda.training import Job

Scalars = Mapping[str, float]


def check_log(config: StudyConfig, root: Path) -> None:
    """Refuse before anything is trained.

    Raises:
        MissingDependencyError: the package that ``log_to`` needs is not installed.
        StaindaError: the store of MLflow does not answer.
    """
    if config.log_to == "mlflow":
        check_mlflow(root, config.mlflow_uri, config.study)
    if config.log_to == "tensorboard":
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                f"log_to: tensorboard needs tensorboard ({error})", remedy="pip install 'stainda[tensorboard]'"
            ) from error


class CurveWriter(Protocol):
    """Where points of curves go: by name, at a step of the training."""

    def add(self, scalars: Scalars, step: int) -> None: ...

    def flush(self) -> None: ...

    def close(self, ended: Ended) -> None: ...


class EventFiles:
    """A folder of TensorBoard. A training that goes on after an interruption writes its curves anew."""

    def __init__(self, root: Path, job: Job) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = EVENTS.at(root, events=file_name(f"{job.strategy.name} seed {job.seed} {job.hash}")).parent
        shutil.rmtree(place, ignore_errors=True)
        self._writer = SummaryWriter(str(place))

    def add(self, scalars: Scalars, step: int) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, ended: Ended) -> None:
        self._writer.close()


@contextmanager
def curves(request: JobRequest, folder: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that writes what a training has added to its tables since it was last called.

    Args:
        folder: of the training.
    """
    if request.log_to == "none":
        yield lambda: None
        return
    job, root = request.job, request.folder.root
    to_mlflow = request.log_to == "mlflow"
    writer: CurveWriter = MlflowRun(root, request.mlflow_uri, job, folder) if to_mlflow else EventFiles(root, job)
    mine = _Curves(job, folder, writer)
    ended: Ended = "failed"
    try:
        yield mine.write_new
        ended = "complete"
    except PrunedError:
        ended = "pruned"
        raise
    finally:
        mine.write_new()
        writer.close(ended)


class _Curves:
    def __init__(self, job: Job, folder: Path, writer: CurveWriter) -> None:
        self.job, self.folder, self.writer = job, folder, writer
        self._written = {TRAINING: -1, EFFECT: -1}

    def write_new(self) -> None:
        for table, last in self._written.items():
            for row in _rows(table.inside(self.folder)):
                if (step := int(row["step"])) > last:
                    self.writer.add(self._of_epoch(row) if table is TRAINING else _of_effect(row), step)
                    self._written[table] = max(step, self._written[table])
        self.writer.flush()

    def _of_epoch(self, row: Mapping[str, str]) -> Scalars:
        from stainda.training.schedule import rate_factor

        training = self.job.training
        share = (int(row["step"]) - 1) / max(1, training.epochs * training.steps_per_epoch)
        values = {f"loss/{name.removeprefix('loss_')}": row[name] for name in row if name.startswith("loss_")}
        numbers = {name: float(text) for name, text in values.items() if text}
        if row.get("val_dice"):
            numbers["validation/dice"] = float(row["val_dice"])
        numbers["learning_rate"] = training.learning_rate * rate_factor(training.schedule, share)
        return numbers


def _of_effect(row: Mapping[str, str]) -> Scalars:
    of = f" {row['discriminator']}" if row.get("discriminator") else ""
    names = {
        "gradient_ratio": "alignment/gradient_ratio",
        "discriminator_accuracy": f"alignment/discriminator_accuracy{of}",
        "distance": f"alignment/distance{of}",
    }
    return {shown: float(row[name]) for name, shown in names.items() if row.get(name)}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
