"""Whether trainings had converged: said before a study for what is planned, and at its end for what was trained."""

from __future__ import annotations

import csv
from pathlib import Path

from stainda.config import ModelConfig, PartConfig, StudyConfig
from stainda.run_directory.result_tables import ROTATIONS
from stainda.run_directory.training_tables import TRIALS

FEW_STEPS = 550
"""Up to so many steps from random weights are said to be few for patches scaled by up to 1.5: in one report, on real
glomeruli with one training, such a network was then at a Dice of .04 where a pretrained one was at .64."""

WIDE_SCALE = 0.3
"""Relative change of size in augmentation from which this is said."""


def state_of(folder: Path) -> str:
    """``converged`` of a training in the job's folder; empty where there is no curve."""
    from stainda.evaluation.convergence import judge_curve
    from stainda.study.pruning import read_curve

    curve, _ = read_curve(folder)
    return judge_curve([curve[epoch] for epoch in sorted(curve)]).state if curve else ""


def expectations(config: StudyConfig, root: Path) -> list[str]:
    """What ``plan`` warns of: few steps for the task, and that an earlier run here had not converged."""
    notes = []
    steps = config.training.epochs * config.training.steps_per_epoch
    scaled = [
        strategy.name for strategy in config.strategies if any(_scale(part) >= WIDE_SCALE for part in strategy.augment)
    ]
    models = {strategy.name: config.model_of(strategy) for strategy in config.strategies}
    scaled = [name for name in scaled if _starts_at_random(models[name])]
    if steps <= FEW_STEPS and scaled:
        notes.append(
            f"{steps} steps from random weights are few for augmentation that changes the scale ({_few(scaled)}): "
            "raise training.epochs, or start from a pretrained encoder (model.weights)"
        )
    if sentence := earlier_sentence(root):
        notes.append(f"the earlier run in {root}: {sentence}; plan more steps (training.epochs)")
    return notes


def _starts_at_random(model: ModelConfig) -> bool:
    from stainda.models.weight_files import missing_weights

    return model.weights is None or bool(missing_weights(model))


def earlier_sentence(root: Path) -> str:
    """How many chosen trainings of a run directory were still rising; empty where none was."""
    states = []
    tables = [TRIALS.at(root)] if not ROTATIONS.at(root).is_file() else sorted(
        root.glob(f"rotations/*/{TRIALS.path}")
    )  # fmt: skip
    for table in tables:
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as stream:
                rows = [row for row in csv.DictReader(stream) if row["state"] == "complete" and row["chosen"] == "True"]
            states += [(row["strategy"], state_of(table.parent / "jobs" / row["job"])) for row in rows]
    if not states:
        return ""
    from stainda.evaluation.convergence import rising_sentence

    return rising_sentence(states)


def _scale(part: PartConfig) -> float:
    """The largest relative change of size that a part of augmentation makes; 0 for parts that make none."""
    from stainda.strategies.augment.geometry import GeometryAugment

    unsaid = GeometryAugment.model_fields["scale"].default if part.name == "geometry" else 0.0
    return float(part.params.get("scale", unsaid))


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
