"""A training that is made again from all source patients: what it takes over from the first one, which validated.

Its steps, schedule and seed are those of the first, and its weights are those of the last step: rates such as
``cosine`` end there, and without validation no epoch is better than another. So its thresholds are those that the first
training chose for its own last step. Where a part looks at the score of each epoch (SWAD, to find which to average), it
is given those of the first training.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from stainda.errors import TrainingError
from stainda.run_directory.training_tables import TRAINING
from stainda.training.result import read_result


@dataclass(frozen=True)
class FirstTraining:
    """What is taken over.

    Attributes:
        name: of the job.
        scores: on source validation, by epoch: as many epochs are trained.
        thresholds: by class, chosen for the weights of the last step.
    """

    name: str
    scores: tuple[float, ...]
    thresholds: dict[str, float]


def read_first(folder: Path) -> FirstTraining:
    """From the folder of the first training.

    Raises:
        TrainingError: it did not end, or its table of epochs is gone.
    """
    result, curve = read_result(folder), TRAINING.inside(folder)
    if result is None or not curve.is_file():
        raise TrainingError(
            "the training that is to be made again from all source patients is not complete", file=folder,
            remedy="Run the study again: it makes what is missing",
        )  # fmt: skip
    with curve.open(newline="", encoding="utf-8") as stream:
        scores = tuple(float(row["val_dice"]) for row in csv.DictReader(stream))
    return FirstTraining(folder.name, scores, result.last_thresholds or result.thresholds)
