"""What a finished training leaves in ``result.json``."""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from stainda.files import load_json
from stainda.run_directory.contents import RESULT
from stainda.training.metering import Costs


@dataclass(frozen=True)
class TrainingResult:
    """What ``result.json`` holds.

    Attributes:
        score: pooled Dice (of patches: F1) on source validation of the best checkpoint, at its thresholds: the
            objective of the search. Not a number (``null`` in the file) where a training was made again from all source
            patients, which leaves none to validate on.
        thresholds: probability from which a pixel is called the class, by class, chosen on source validation.
        best_epoch: 1-based; ``epochs`` and ``steps`` say how far training went.
        seconds, cpu_seconds: of the whole job, wall clock and processor.
        norm: what was done about batch statistics.
        last_thresholds: as ``thresholds``, for the checkpoint of the last step.
        fallbacks: slides whose view could not be fitted, with what was done instead.
        costs: memory and energy, where they could be measured.
        n_parameters, n_trained: numbers of the network, and those of them that learned.
        thresholds_of: name of the training on whose validation the thresholds were chosen; empty: this one.
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
    last_thresholds: dict[str, float] = field(default_factory=dict)
    costs: Costs = field(default_factory=Costs)
    thresholds_of: str = ""
    n_trained: int | None = None


def read_result(folder: str | Path) -> TrainingResult | None:
    """The result of a job's folder, or ``None`` where training has not ended (or was cut off)."""
    path = RESULT.inside(Path(folder))
    try:
        values = load_json(path)
        needed = [entry for entry in fields(TrainingResult) if entry.name in values or _must_be_there(entry)]
        known = {entry.name: values[entry.name] for entry in needed}
        score = math.nan if known["score"] is None else known["score"]
        return TrainingResult(**{**known, "score": score, "costs": Costs.read(values.get("costs"))})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _must_be_there(entry: Field[Any]) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING
