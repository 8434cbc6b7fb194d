"""Ending trials that fall behind: whether to stop is a function of the trials that ended before, and of nothing else.

Scores are those on source validation after each epoch. ``median`` (Vizier, Golovin et al. 2017) stops a trial whose
best score so far is below the median of the earlier ones at the same epoch; ``hyperband`` (Li et al. 2018) compares
within brackets of successive halving; ``wilcoxon`` compares the scores of single validation patients with those of the
best earlier trial at the same epoch by the signed-rank test, at p < 0.1: it needs four validation patients, below which
no p can be that small.

A trial is pruned in mid-training, so strategies with a pruner have equal numbers of trials, but not of steps.
"""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stainda.files import load_json, stable_hash
from stainda.run_directory.contents import PRUNED as PRUNED_FILE
from stainda.run_directory.training_tables import TRAINING

PRUNED = PRUNED_FILE.name
"""In the folder of a job that was pruned; gone when it is trained to its end."""

WILCOXON_P = 0.1
WILCOXON_PATIENTS = 4


class PrunedError(Exception):
    """Raised in a training to end it: it is too far behind the earlier trials."""


@dataclass(frozen=True)
class EarlierTrial:
    """A trial of the same strategy that has ended.

    Attributes:
        index: of the trial. state: ``complete``, ``pruned`` or ``failed``. value: its objective, if complete.
        curve: score by epoch.
        patients: score by patient, by epoch.
    """

    index: int
    state: str
    value: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    patients: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pruning:
    """What decides whether a trial goes on.

    Args:
        pruner: its name. startup_trials, warmup_epochs: see ``SearchConfig``.
        epochs: of a whole training.
        name: of the search; Hyperband deals trials to brackets by it.
        index: of the trial in question.
        earlier: all trials before it.
    """

    pruner: str
    startup_trials: int
    warmup_epochs: int
    epochs: int
    name: str
    index: int
    earlier: tuple[EarlierTrial, ...] = ()

    @property
    def key(self) -> str:
        """What the decision depends on, as a hash: a job pruned under another one is trained again."""
        return stable_hash(json.loads(json.dumps(asdict(self))))

    def stops(self, curve: Mapping[int, float], patients: Mapping[str, float]) -> bool:
        """Whether a trial with these scores by epoch, the last epoch just ended, is to end.

        Args:
            patients: score by validation patient after the last epoch.
        """
        epoch = max(curve)
        if epoch <= self.warmup_epochs or epoch >= self.epochs:
            return False
        complete = [trial for trial in self.earlier if trial.state == "complete"]
        if len(complete) < self.startup_trials:
            return False
        if self.pruner == "wilcoxon":
            best = max(
                complete, key=lambda trial: (trial.value if trial.value is not None else -math.inf, -trial.index)
            )
            return self._wilcoxon(patients, best.patients.get(epoch, {}))
        return self._by_curves(curve)

    def _by_curves(self, curve: Mapping[int, float]) -> bool:
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            pruners = {
                "median": lambda: optuna.pruners.MedianPruner(self.startup_trials, self.warmup_epochs),
                "hyperband": lambda: optuna.pruners.HyperbandPruner(
                    min_resource=max(1, self.warmup_epochs), max_resource=self.epochs, reduction_factor=3
                ),
            }
            study = optuna.create_study(study_name=self.name, direction="maximize", pruner=pruners[self.pruner]())
            states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
            for (
                trial
            ) in self.earlier:  # gone through epoch by epoch: Hyperband notes the rungs that a trial has reached
                replayed = study.ask()
                _report(replayed, trial.curve)
                value = trial.value if trial.state == "complete" else None
                study.tell(replayed, value, state=optuna.trial.TrialState[states[trial.state]])
            return _report(study.ask(), curve)

    @staticmethod
    def _wilcoxon(mine: Mapping[str, float], best: Mapping[str, float]) -> bool:
        from scipy.stats import wilcoxon

        both = sorted(set(mine) & set(best))
        differences = [mine[patient] - best[patient] for patient in both]
        if len(both) < WILCOXON_PATIENTS or sum(differences) >= 0:
            return False
        return bool(wilcoxon(differences, alternative="less", zero_method="zsplit").pvalue < WILCOXON_P)


def _report(trial: Any, curve: Mapping[int, float]) -> bool:
    """Report a curve to an Optuna trial; whether it should end after the last epoch."""
    ends = False
    for epoch, score in sorted(curve.items()):
        trial.report(score, epoch)
        ends = bool(trial.should_prune())
    return ends


def read_curve(folder: Path) -> tuple[dict[int, float], dict[int, dict[str, float]]]:
    """Score by epoch, and by epoch and patient, of a job's folder, from ``training.csv``; empty where there is none, or
    nothing was validated."""
    path = TRAINING.inside(folder)
    if not path.is_file():
        return {}, {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("val_dice")]
    curve = {int(row["epoch"]): float(row["val_dice"]) for row in rows}
    patients = {int(row["epoch"]): json.loads(row.get("val_patients") or "{}") for row in rows}
    return curve, patients


def read_pruned(folder: Path, pruning: Pruning | None) -> dict[str, Any] | None:
    """What was written when this job was pruned on these grounds; ``None`` where it was not."""
    path = folder / PRUNED
    if pruning is None or not path.is_file():
        return None
    loads = load_json(path)
    return loads if loads.get("key") == pruning.key else None
