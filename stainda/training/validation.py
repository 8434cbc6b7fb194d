"""Scores on source validation patches, and the probability thresholds fixed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from stainda.strategies.detector import Detector
from stainda.strategies.statistics import Statistics, estimate_statistics
from stainda.training.batches import Origins, Patches
from stainda.training.losses import IGNORE
from stainda.training.tasks import task_of

BINS = 100
"""Probabilities are counted in hundredths, so that every threshold is scored from one pass."""

GRID = np.arange(5, 96, 5)
"""Thresholds tried, in hundredths."""


@dataclass(frozen=True)
class Validation:
    """Pooled Dice at the best threshold of each class; of patches with one answer each that is their F1.

    Attributes:
        score: mean over the classes that occur in the validation patches.
        dice, thresholds: by class; a class that does not occur keeps 0.5 and has no Dice.
        patients: mean Dice over the classes by patient, at the thresholds of all.
    """

    score: float
    dice: dict[str, float]
    thresholds: dict[str, float]
    patients: dict[str, float] = field(default_factory=dict)


def validate(
    detector: Detector,
    data: Patches,
    origins: Origins,
    indices: np.ndarray,
    batch_size: int = 32,
    own_statistics: bool = True,
) -> Validation:
    """Score a detector on validation patches of source domains.

    Each patch is normalised as a slide of its domain would be at prediction: by the statistics of its domain where the
    detector keeps them, of its slide where ``norm`` estimates them there.

    Args:
        own_statistics: ``False`` takes the network as it stands (while it trains).
    """
    by_slide, task = detector.strategy.norm.from_slide, task_of(detector.task)
    groups = np.asarray(origins.slides(indices) if by_slide else origins.domains(indices))
    counts: dict[str, np.ndarray] = {}
    for group in dict.fromkeys(groups.tolist()):
        members = indices[groups == group]
        parts = [members[start : start + batch_size] for start in range(0, len(members), batch_size)]
        statistics: Statistics | None = None
        if own_statistics and by_slide:
            seen = (detector.see(detector.images(data.images(part)), origins.slides(part)) for part in parts)
            statistics = estimate_statistics(detector.network, seen)
        elif own_statistics:
            statistics = detector.statistics.get(group)
        for part in parts:
            shares = detector.probabilities(data.images(part), origins.slides(part), statistics)
            pixels = detector.network.crop(torch.from_numpy(np.ascontiguousarray(data.labels(part))))
            labels, _ = task.answers(pixels)
            of = np.asarray(origins.patients(part))
            for patient in dict.fromkeys(of.tolist()):
                mine = count_probabilities(shares.cpu().numpy()[of == patient], labels.numpy()[of == patient])
                counts[patient] = counts[patient] + mine if patient in counts else mine
    total = sum(counts.values(), np.zeros((len(detector.classes), 2, BINS + 1), np.int64))
    found = best_thresholds(total, detector.classes)
    by_patient = {patient: dice_at(mine, found.thresholds, detector.classes) for patient, mine in counts.items()}
    return replace(found, patients={patient: dice for patient, dice in by_patient.items() if dice is not None})


def dice_at(counts: np.ndarray, thresholds: Mapping[str, float], classes: Sequence[str]) -> float | None:
    """Mean Dice at given thresholds of the classes that occur, from :func:`count_probabilities`; ``None``: none."""
    scores = []
    for name, (other, own) in zip(classes, counts, strict=True):
        if own.sum():
            start = round(thresholds[name] * BINS)
            hits, false = own[start:].sum(), other[start:].sum()
            scores.append(2.0 * hits / (hits + false + own.sum()))
    return float(np.mean(scores)) if scores else None


def count_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
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


def best_thresholds(counts: np.ndarray, classes: Sequence[str]) -> Validation:
    """From :func:`count_probabilities`: the threshold of highest Dice per class; of equals, the one nearest 0.5."""
    dice: dict[str, float] = {}
    thresholds: dict[str, float] = {}
    for name, (other, own) in zip(classes, counts, strict=True):
        thresholds[name] = 0.5
        if own.sum() == 0:
            continue
        hits = own[::-1].cumsum()[::-1][GRID]
        false = other[::-1].cumsum()[::-1][GRID]
        scores = 2.0 * hits / (hits + false + own.sum())
        best = max(range(len(GRID)), key=lambda index: (round(scores[index], 6), -abs(GRID[index] - 50)))
        dice[name], thresholds[name] = float(scores[best]), float(GRID[best] / BINS)
    return Validation(float(np.mean(list(dice.values()))) if dice else 0.0, dice, thresholds)
