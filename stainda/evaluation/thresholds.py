r"""The probability from which a pixel is called a class, chosen on validation patients of the source.

Three rules, the same for all strategies (``evaluation.threshold``):

``robust`` (the default)
    The threshold t of highest :math:`\bar D(t) - \frac{2}{n} (t - 0.5)^2`, with the Dice of each of n validation
    patients averaged over patients. The second term is a prior at 0.5: a threshold is moved only for a gain in Dice,
    which has to be larger the further it goes and the fewer the patients (0.15 with one patient has to gain 0.25, with
    six 0.04). With two patients or more it is cross-validated as well: each patient is scored at the threshold of the
    others, and where that gives a mean Dice no better than 0.5 does, it stays at 0.5.
``pooled``
    The threshold of highest Dice over all validation pixels, whosever they are.
a number
    That number, whatever validation says.

Why: calibration differs from patient to patient, and again in a foreign centre, so that the best threshold of one or
two patients is mostly theirs. ``benchmarks/threshold_choice.py`` simulates what each rule loses on foreign patients
against their own best threshold; docs/concepts/statistics.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from stainda.arrays import Array

Floats = npt.NDArray[np.float64]

Rule = Literal["robust", "pooled"] | float

BINS = 100
"""Probabilities are counted in hundredths, so that every threshold is scored from one pass."""

GRID = np.arange(5, 96, 5)
"""Thresholds tried, in hundredths."""

MIDDLE = 0.5
"""Where the prior is, and what is kept where nothing is known."""

PRIOR = 2.0
"""Dice that one validation patient has to gain for each squared distance from 0.5; found by the benchmark."""


def choose_threshold(counts: Array, rule: Rule = "robust") -> float:
    """The threshold of one class.

    Args:
        counts: pixels int64 (patients, 2, 101) by truth (0 other, 1 the class) and probability in hundredths. Patients
            without a pixel of the class have no Dice, and no say under ``robust``.
        rule: see the module.

    Returns:
        0.5 where no patient has a pixel of the class.
    """
    if not isinstance(rule, str):
        return float(rule)
    if rule == "pooled":
        pooled = counts.sum(axis=0, keepdims=True)
        return _best(dice_by_threshold(pooled)[0]) if pooled[0, 1].sum() else MIDDLE
    dice = dice_by_threshold(counts[counts[:, 1].sum(axis=1) > 0])
    return robust_threshold(dice)


def robust_threshold(dice: Floats) -> float:
    """The ``robust`` rule on the Dice of each patient at each threshold of :data:`GRID`, float (patients, 19)."""
    n = len(dice)
    chosen = with_prior(dice, n)
    if n < 2 or chosen == MIDDLE:
        return chosen
    others = [with_prior(np.delete(dice, index, axis=0), n) for index in range(n)]
    held_out = np.array([scores[_place(at)] for scores, at in zip(dice, others, strict=True)])
    return chosen if float(np.mean(held_out - dice[:, _place(MIDDLE)])) > 1e-9 else MIDDLE


def with_prior(dice: Floats, n: int) -> float:
    """The threshold of highest mean Dice of some patients, with the prior of ``n``."""
    if not len(dice):
        return MIDDLE
    return _best(dice.mean(axis=0) - PRIOR / n * (GRID / BINS - MIDDLE) ** 2)


def _best(scores: Sequence[float] | Floats) -> float:
    """The threshold of the highest score; of equals, the one nearest 0.5."""
    best = max(range(len(GRID)), key=lambda index: (round(float(scores[index]), 6), -abs(GRID[index] - BINS * MIDDLE)))
    return float(GRID[best] / BINS)


def _place(threshold: float) -> int:
    return int(np.flatnonzero(round(threshold * BINS) == GRID)[0])


def dice_by_threshold(counts: Array) -> Floats:
    """Dice at every threshold of :data:`GRID`, float (..., 19), of counts (..., 2, 101); ``nan`` without the class."""
    from_here = counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., GRID]
    false, hits = from_here[..., 0, :].astype(float), from_here[..., 1, :].astype(float)
    true_pixels = counts[..., 1, :].sum(axis=-1)[..., None]
    return np.divide(2 * hits, hits + false + true_pixels, out=np.full(hits.shape, np.nan), where=true_pixels > 0)


def dice_at(counts: Array, threshold: float) -> float:
    """Dice at one threshold of counts (2, 101); ``nan`` without the class."""
    start, true_pixels = int(np.ceil(threshold * BINS - 1e-9)), counts[1].sum()
    if not true_pixels:
        return float("nan")
    hits, false = counts[1][start:].sum(), counts[0][start:].sum()
    return float(2.0 * hits / (hits + false + true_pixels))
