"""What a finished training leaves in ``result.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class TrainingResult:
    """What ``result.json`` holds.

    Attributes:
        score: pooled Dice on source validation of the best checkpoint, at its thresholds: the objective of the search.
        thresholds: probability from which a pixel is called the class, by class, fixed on source validation.
        best_epoch: 1-based; ``epochs`` and ``steps`` say how far training went.
        seconds, cpu_seconds: of the whole job, wall clock and processor.
        norm: what was done about batch statistics.
        fallbacks: slides whose view could not be fitted, with what was done instead.
    """

    score: float
    thresholds: dict[str, float]
    dice: dict[str, float]
    best_epoch: int
    epochs: int
    steps: int
    seconds: float
    cpu_seconds: float
    steps_per_second: float
    n_parameters: int
    norm: str
    precision: str
    device: str
    patches: dict[str, int]
    fallbacks: dict[str, str]


def read_result(folder: str | Path) -> TrainingResult | None:
    """The result of a job's folder, or ``None`` where training has not ended (or was cut off)."""
    path = Path(folder) / "result.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return TrainingResult(**{field.name: values[field.name] for field in fields(TrainingResult)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
