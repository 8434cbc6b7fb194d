"""Scores on source validation patches, and the probability thresholds fixed there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from stainda.arrays import Array
from stainda.evaluation.thresholds import BINS, Rule, choose_threshold, dice_at
from stainda.strategies.detector import Detector
from stainda.strategies.norm.statistics import (
    Statistics,
    TooFewImages,
    batches_for_statistics,
    estimate_statistics,
)
from stainda.training.batches import Patches, PatchMetadata
from stainda.training.losses import IGNORE
from stainda.training.tasks import task_of


@dataclass(frozen=True)
class Validation:
    """Pooled Dice at the threshold chosen for each class; of patches with one answer each that is their F1.

    Attributes:
        score: mean over the classes that occur in the validation patches.
        dice, thresholds: by class; a class that does not occur keeps 0.5 and has no Dice.
        patients: mean Dice over the classes by patient, at the thresholds of all.
        fallbacks: by slide, why its batch statistics are not its own.
    """

    score: float
    dice: dict[str, float]
    thresholds: dict[str, float]
    patients: dict[str, float] = field(default_factory=dict)
    fallbacks: dict[str, str] = field(default_factory=dict)


def validate(
    detector: Detector,
    data: Patches,
    origins: PatchMetadata,
    indices: Array,
    *,
    batch_size: int = 32,
    own_statistics: bool = True,
    threshold: Rule = "robust",
    probabilities: Callable[[Array, Statistics | None], Tensor] | None = None,
) -> Validation:
    """Score a detector on validation patches of source domains.

    Each patch is normalised as a slide of its domain would be at prediction: by the statistics of its domain where the
    detector keeps them, of its slide where ``norm`` estimates them there.

    Args:
        own_statistics: ``False`` takes the network as it stands (while it trains).
        probabilities: gives those of patches by their index from features that are kept; ``None``: from their images.
        threshold: how the thresholds are chosen, see :mod:`stainda.evaluation.thresholds`.
    """
    by_slide, task = detector.strategy.norm.from_slide, task_of(detector.task)
    groups = np.asarray(origins.slides(indices) if by_slide else origins.domains(indices))
    counts: dict[str, Array] = {}
    fallbacks: dict[str, str] = {}
    for group in dict.fromkeys(groups.tolist()):
        members = indices[groups == group]
        parts = [members[start : start + batch_size] for start in range(0, len(members), batch_size)]
        statistics: Statistics | None = None
        if own_statistics and by_slide:
            batches = [members[some] for some in batches_for_statistics(len(members), batch_size)]
            seen = (detector.see(detector.images(data.images(part)), origins.slides(part)) for part in batches)
            try:
                statistics = estimate_statistics(detector.network, seen)
            except TooFewImages:
                fallbacks[group] = "batch statistics as trained: one patch is too few to estimate them from"
        elif own_statistics:
            statistics = detector.statistics.get(group)
        for part in parts:
            if probabilities is not None:
                shares = probabilities(part, statistics)
            else:
                shares = detector.probabilities(data.images(part), origins.slides(part), statistics)
            pixels = detector.network.crop(torch.from_numpy(np.ascontiguousarray(data.labels(part))))
            labels, _ = task.answers(pixels)
            of = np.asarray(origins.patients(part))
            for patient in dict.fromkeys(of.tolist()):
                mine = count_probabilities(shares.cpu().numpy()[of == patient], labels.numpy()[of == patient])
                counts[patient] = counts[patient] + mine if patient in counts else mine
    return replace(score_counts(counts, detector.classes, threshold), fallbacks=fallbacks)


def score_counts(counts: Mapping[str, Array], classes: Sequence[str], rule: Rule = "robust") -> Validation:
    """Thresholds and Dice from the counts of each patient (:func:`count_probabilities`).

    The score is of the same thresholds that predictions will use, also where checkpoints are compared: one whose
    probabilities are all too low is no worse than one that needs no other threshold, if the rule would move it.
    """
    people = np.stack(list(counts.values())) if counts else np.zeros((0, len(classes), 2, BINS + 1), np.int64)
    thresholds = {name: choose_threshold(people[:, index], rule) for index, name in enumerate(classes)}
    pooled = _dice(people.sum(axis=0), thresholds)
    by_patient = {patient: _dice(mine, thresholds) for patient, mine in counts.items()}
    return Validation(
        float(np.mean(list(pooled.values()))) if pooled else 0.0,
        pooled,
        thresholds,
        {patient: float(np.mean(list(dice.values()))) for patient, dice in by_patient.items() if dice},
    )


def _dice(counts: Array, thresholds: Mapping[str, float]) -> dict[str, float]:
    """By class, of those that occur in counts (classes, 2, 101)."""
    return {
        name: dice_at(count, at) for count, (name, at) in zip(counts, thresholds.items(), strict=True) if count[1].sum()
    }


def count_probabilities(probabilities: Array, labels: Array) -> Array:
    """Pixels by class, truth (0 other, 1 the class) and probability in hundredths: int64 ``(K, 2, 101)``.

    Args:
        probabilities: ``(N, K, H, W)`` of the foreground classes, or ``(N, K)`` of patches.
        labels: whole numbers ``(N, H, W)`` or ``(N,)``; 255 is left out.
    """
    known = labels != IGNORE
    counts = np.empty((probabilities.shape[1], 2, BINS + 1), np.int64)
    for index in range(probabilities.shape[1]):
        bins = np.floor(probabilities[:, index][known] * BINS + 1e-4).astype(np.int64).clip(0, BINS)
        truth = labels[known] == index + 1
        joint = np.bincount(bins + truth * (BINS + 1), minlength=2 * (BINS + 1))
        counts[index] = joint.reshape(2, BINS + 1)
    return counts
