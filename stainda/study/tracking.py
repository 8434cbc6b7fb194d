"""Curves of trainings for TensorBoard, written while they train: copies, on which no record and no name depends.

Everything is read from the tables that a training writes anyway, after each epoch. A training that goes on after an
interruption, or is made again, writes its curves anew from its first epoch.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.errors import MissingDependencyError
from stainda.names import file_name
from stainda.run_directory.contents import EVENTS
from stainda.run_directory.training_tables import EFFECT, TRAINING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from stainda.training import Job

Scalars = Mapping[str, float]


def check_tensorboard() -> None:
    """Refuse before anything is trained.

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"log_to: tensorboard needs tensorboard ({error})", remedy="pip install 'stainda[tensorboard]'"
        ) from error


@contextmanager
def curves(log_to: str, root: Path, job: Job, folder: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that writes what a training has added to its tables since it was last called.

    Args:
        log_to: ``none`` or ``tensorboard``.
        root: the run directory, whose ``tensorboard/`` gets a folder of this training.
        folder: of the training.
    """
    if log_to == "none":
        yield lambda: None
        return
    from torch.utils.tensorboard import SummaryWriter

    place = EVENTS.at(root, events=file_name(f"{job.strategy.name} seed {job.seed} {job.hash}")).parent
    shutil.rmtree(place, ignore_errors=True)
    mine = _Curves(job, folder, SummaryWriter(str(place)))
    try:
        yield mine.write_new
    finally:
        mine.write_new()
        mine.writer.close()


class _Curves:
    def __init__(self, job: Job, folder: Path, writer: SummaryWriter) -> None:
        self.job, self.folder, self.writer = job, folder, writer
        self._written = {TRAINING: -1, EFFECT: -1}

    def write_new(self) -> None:
        for table, last in self._written.items():
            for row in _rows(table.inside(self.folder)):
                if (step := int(row["step"])) > last:
                    for name, value in (self._of_epoch(row) if table is TRAINING else _of_effect(row)).items():
                        self.writer.add_scalar(name, value, step)
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
