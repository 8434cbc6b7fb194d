"""What a finished training leaves in ``result.json``."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from stainda.training.metering import Costs


@dataclass(frozen=True)
class TrainingResult:
    """What ``result.json`` holds.

    Attributes:
        score: pooled Dice (of patches: F1) on source validation of the best checkpoint, at its thresholds: the
            objective of the search.
        thresholds: probability from which a pixel is called the class, by class, chosen on source validation.
        best_epoch: 1-based; ``epochs`` and ``steps`` say how far training went.
        seconds, cpu_seconds: of the whole job, wall clock and processor.
        norm: what was done about batch statistics.
        last_thresholds: as ``thresholds``, for the checkpoint of the last step.
        fallbacks: slides whose view could not be fitted, with what was done instead.
        costs: memory and energy, where they could be measured.
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


def read_result(folder: str | Path) -> TrainingResult | None:
    """The result of a job's folder, or ``None`` where training has not ended (or was cut off)."""
    path = Path(folder) / "result.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        needed = [one for one in fields(TrainingResult) if one.name in values or one.default_factory is MISSING]
        known = {one.name: values[one.name] for one in needed}
        return TrainingResult(**{**known, "costs": Costs.read(values.get("costs"))})
    except (OSError, ValueError, KeyError, TypeError):
        return None
