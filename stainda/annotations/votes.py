"""Several annotators' votes about the same places, weighed: majority, STAPLE and reliability-weighted.

A *pattern* is what each annotator said at a place: yes (1), no (0), or nothing (-1, an abstention). Places of one
pattern are alike to all three rules, so that a whole slide is a short table of patterns and how much of the slide
(pixels, or area) has each of them: memory does not grow with the slide.

- *majority*: the share of yes among those who spoke.
- *weighted*: the same with weights; after Grote et al. 2018 (IEEE Trans. Med. Imaging 38:1284) an annotator's weight is
  his reliability ``r = a·(accuracy in training) + (1 - a)·(accuracy in qualification)`` with ``a`` = 0.35, and what is
  decided is the sign of ``Σ r·s`` with ``s`` = +1 for yes and -1 for no. Here the signed sum is divided by ``Σ r`` and
  brought to 0…1, ``(1 + Σ r·s / Σ r) / 2``, so that one half is undecided under every rule.
- *STAPLE*: Warfield et al. 2004 (IEEE Trans. Med. Imaging 23:903), expectation maximisation over the unknown truth and
  each annotator's sensitivity and specificity, with the fixed global prior and the start that ITK's filter uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

YES, NO, SILENT = 1, 0, -1
GROTE_SHARE = 0.35
"""Weight of the accuracy in training next to that in qualification."""

Floats = NDArray[np.float64]
Votes = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Staple:
    """Result of STAPLE.

    Attributes:
        probability: (n,) that the object is truly there, for each pattern.
        sensitivity, specificity: (k,) of each annotator; NaN where nothing tells.
        prior: share of the places that are object before anyone is trusted more than another.
        iterations: until nothing changed.
        converged: whether nothing changed any more.
    """

    probability: Floats
    sensitivity: Floats
    specificity: Floats
    prior: float
    iterations: int
    converged: bool


def table_of_patterns(votes: Votes) -> tuple[Votes, NDArray[np.int64], NDArray[np.int64]]:
    """Votes of each place as a table of the patterns that occur.

    Args:
        votes: int8 (k, n): annotators by places.

    Returns:
        patterns (m, k), how many places have each (m,), and the pattern of each place (n,).
    """
    code = np.zeros(votes.shape[1], np.int64)
    for number, row in enumerate(votes, start=1):
        code = code * 3 + (row.astype(np.int64) + 1)
        if number % 30 == 0:  # 3**31 more would not fit
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
    _, first, inverse, counts = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    return votes[:, first].T.copy(), counts.astype(np.int64), inverse.astype(np.int64)


def share_of_yes(patterns: Votes, weights: Sequence[float] | Floats | None = None) -> Floats:
    """The (weighted) share of yes among the annotators who spoke, (n,); 0 where nobody did.

    Args:
        patterns: int8 (n, k).
        weights: (k,), not negative; ``None``: all alike, which is the majority vote.
    """
    weight = np.ones(patterns.shape[1]) if weights is None else np.asarray(weights, float)
    spoke = (patterns != SILENT) @ weight
    return np.divide((patterns == YES) @ weight, spoke, out=np.zeros(len(patterns)), where=spoke > 0)


def reliability(training: float, qualification: float, share: float = GROTE_SHARE) -> float:
    """An annotator's reliability from the accuracies in training and in qualification (0…1), after Grote et al."""
    return share * training + (1 - share) * qualification


def reliability_among_peers(patterns: Votes, amounts: Floats) -> Floats:
    """Mean Dice (k,) of each annotator with each of the others, for where no gold standard was annotated.

    Two who drew nothing agree fully. Only places of which both spoke count.
    """
    count = patterns.shape[1]
    table = np.full((count, count), np.nan)
    for first, second in pairs(count):
        spoke = (patterns[:, [first, second]] != SILENT).all(axis=1)
        a, b = (spoke & (patterns[:, index] == YES) for index in (first, second))
        table[first, second] = table[second, first] = dice(a, b, amounts)
    return np.nanmean(table, axis=1) if count > 1 else np.ones(count)


def staple(patterns: Votes, amounts: Floats, tolerance: float = 1e-9, most: int = 2000) -> Staple:
    """STAPLE over a table of patterns.

    Abstentions say nothing about the truth and nothing about who abstains. An annotator without a vote has NaN.

    Args:
        patterns: int8 (n, k). amounts: (n,) pixels or area of each.
        tolerance: change of sensitivities and specificities below which it ends.
        most: iterations.
    """
    patterns, amounts = np.asarray(patterns), np.asarray(amounts, float)
    yes, no = (patterns == YES).astype(float), (patterns == NO).astype(float)
    truth = share_of_yes(patterns)
    total = amounts.sum()
    prior = float((truth * amounts).sum() / total) if total > 0 else 0.0
    k = patterns.shape[1]
    sensitivity, specificity = np.full(k, 0.99999), np.full(k, 0.99999)
    if prior <= 0 or prior >= 1:  # all said the same everywhere
        spoke = ((yes + no) * amounts[:, None]).sum(0) > 0
        nothing, all_right = np.full(k, np.nan), np.where(spoke, 1.0, np.nan)
        known = (all_right, nothing) if prior >= 1 else (nothing, all_right)
        return Staple(truth, *known, prior, 0, True)
    iterations, converged = 0, False
    while not converged and iterations < most:
        true, false = (truth * amounts)[:, None], ((1 - truth) * amounts)[:, None]
        before = np.concatenate([sensitivity, specificity])
        sensitivity = _ratio((yes * true).sum(0), ((yes + no) * true).sum(0))
        specificity = _ratio((no * false).sum(0), ((yes + no) * false).sum(0))
        truth = _posterior(yes, no, sensitivity, specificity, prior)
        iterations += 1
        change = np.abs(np.concatenate([sensitivity, specificity]) - before)
        converged = bool(np.nan_to_num(change).max() < tolerance)
    return Staple(truth, sensitivity, specificity, prior, iterations, converged)


def _posterior(yes: Floats, no: Floats, sensitivity: Floats, specificity: Floats, prior: float) -> Floats:
    def log(values: Floats) -> Floats:  # an annotator of whom nothing is known says nothing
        return np.log(np.clip(np.nan_to_num(values, nan=0.5), 1e-300, 1))

    present = np.log(prior) + yes @ log(sensitivity) + no @ log(1 - sensitivity)
    absent = np.log(1 - prior) + yes @ log(1 - specificity) + no @ log(specificity)
    return 1 / (1 + np.exp(np.clip(absent - present, -700, 700)))


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_], amounts: Floats) -> float:
    """Dice of two sets of places, each place counted by its amount; 1 where both are empty."""
    total = amounts[first].sum() + amounts[second].sum()
    return float(2 * amounts[first & second].sum() / total) if total > 0 else 1.0


def cohen_kappa(patterns: Votes, amounts: Floats, first: int, second: int) -> float:
    """Cohen's kappa of two annotators over the places of which both spoke; NaN where chance alone agrees fully."""
    both = (patterns[:, first] != SILENT) & (patterns[:, second] != SILENT)
    a, b, weight = patterns[both, first] == YES, patterns[both, second] == YES, amounts[both]
    total = weight.sum()
    if total <= 0:
        return float("nan")
    share_a, share_b = weight[a].sum() / total, weight[b].sum() / total
    chance = share_a * share_b + (1 - share_a) * (1 - share_b)
    return _kappa(weight[a == b].sum() / total, chance)


def fleiss_kappa(patterns: Votes, amounts: Floats) -> float:
    """Fleiss' kappa over the places of which every annotator spoke; NaN where chance alone agrees fully."""
    full = (patterns != SILENT).all(axis=1)
    count, weight, k = (patterns[full] == YES).sum(axis=1), amounts[full], patterns.shape[1]
    total = weight.sum()
    if total <= 0 or k < 2:
        return float("nan")
    agreement = (count * (count - 1) + (k - count) * (k - count - 1)) / (k * (k - 1))
    share = float((weight * count).sum() / (k * total))
    return _kappa(float((weight * agreement).sum() / total), share**2 + (1 - share) ** 2)


def _kappa(seen: float, chance: float) -> float:
    return float("nan") if chance >= 1 - 1e-12 else float((seen - chance) / (1 - chance))


def pairs(count: int) -> list[tuple[int, int]]:
    return list(combinations(range(count), 2))
