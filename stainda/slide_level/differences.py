r"""Differences between two aggregators over patients and trainings, with their test.

Every training of an aggregator scored every patient, so that patients and trainings are crossed, as in
``evaluation.crossed``; but AUROC, average precision and balanced accuracy are no means over patients. Their variances
over patients are those of the bootstrap whose draws all aggregators share, enlarged by :math:`n/(n-1)` for the n
patients of the smaller class. With S trainings of an aggregator, of which one has the score :math:`y_s` and the
resampled scores :math:`B_s`:

- :math:`v_P`, over patients: the variance of the difference of the resampled means over trainings;
- :math:`v_T`, over trainings: :math:`s^2(y)/S` of each aggregator, summed;
- :math:`v_R`, what belongs to one patient in one training, which is in both and counts once:
  :math:`\sum_s s^2(B_s - \bar B) / (S (S-1))` of each aggregator, summed.

The half width of an interval gives each part its own quantile of Student's t (Howe 1974), with Welch's degrees of
freedom :math:`\omega` of the trainings:

.. math:: h = \sqrt{t_{n-1}^2 v_P + t_\omega^2 (v_T - v_R)_+}

and p is twice the tail whose half width just reaches the difference. Quantiles of the crossed bootstrap, as scores have
them, are no ground for a claim: a bootstrap of S trainings sees (S-1)/S of their variance, and of one training nothing.
With one training there is no interval here. With two there is one, but no p: :math:`v_T - v_R` is 0 by chance too often
for the small p that a correction for several comparisons needs.

p is of one comparison. The page corrects it by Holm's procedure for all that it compares. Of 7 equal aggregators and
24 patients ``benchmarks/slides_claims.py`` counts the studies with a false claim (docs/howto/slides.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from stainda.evaluation.two_class import LEAST_OF_A_CLASS, Resampled

Floats = npt.NDArray[np.float64]
LEAST_TRAININGS = 3
"""Of each aggregator, below which no difference is tested."""
HALVINGS = 60


@dataclass(frozen=True)
class AggregatorDifference:
    """Of two means over trainings; ``low``, ``high`` and ``p`` (two-sided, of 0) are ``nan`` where there are none, for
    the reason in ``note``."""

    value: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    note: str = ""


@dataclass(frozen=True)
class Variances:
    """Of a difference: over ``patients`` and, without what is in that already, over ``trainings``, with the degrees of
    freedom of each."""

    patients: float
    trainings: float
    freedom: tuple[float, float]

    def half_width(self, tail: float) -> float:
        """Half width of the interval that leaves ``tail`` on either side."""
        squares = special.stdtrit(self.freedom, tail) ** 2
        return math.sqrt(squares[0] * self.patients + squares[1] * self.trainings)

    def p_of(self, value: float) -> float:
        """Two-sided p that the difference is 0, by halving the logarithm of the tail."""
        low, high = math.log(1e-100), math.log(0.5)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.half_width(math.exp(middle)) > abs(value) else (low, middle)
        return min(2 * math.exp(high), 1.0)


def difference(score: Resampled, reference: Resampled, counts: tuple[int, int], level: float) -> AggregatorDifference:
    """``score - reference`` of two methods on the same patients.

    Args:
        counts: patients with a positive and with a negative unit.
    """
    value, least = score.mean - reference.mean, min(counts)
    sizes = (len(score.value), len(reference.value))
    drawn = np.isfinite(score.each).all(axis=0) & np.isfinite(reference.each).all(axis=0)
    if min(sizes) < 2:
        return AggregatorDifference(
            value, note=f"one training each: no interval and no test (from {LEAST_TRAININGS} on)"
        )
    if least < LEAST_OF_A_CLASS or not drawn.any():
        few = f"{counts[0]} positive and {counts[1]} negative patients: no test (from {LEAST_OF_A_CLASS} of each on)"
        return AggregatorDifference(value, note=few if least < LEAST_OF_A_CLASS else "no resample has a score: no test")
    variances = _variances(score, reference, drawn, least)
    if variances.patients + variances.trainings < 1e-18:  # as of two perfect rankings: others might differ
        return AggregatorDifference(value, note="every resample gives the same: no test")
    half = variances.half_width(0.5 - level / 2)
    if min(sizes) < LEAST_TRAININGS:
        return AggregatorDifference(
            value, value - half, value + half, note=f"two trainings each: no test (from {LEAST_TRAININGS} on)"
        )
    return AggregatorDifference(value, value - half, value + half, variances.p_of(value))


def _variances(score: Resampled, reference: Resampled, drawn: npt.NDArray[np.bool_], least: int) -> Variances:
    both = (score, reference)
    first, second = (part.each[:, drawn] for part in both)
    enlarged = least / (least - 1)
    patients = enlarged * (first.mean(axis=0) - second.mean(axis=0)).var()
    runs = [float(part.value.var(ddof=1)) / len(part.value) for part in both]
    squares = sum(run**2 / (len(part.value) - 1) for run, part in zip(runs, both, strict=True))
    welch = sum(runs) ** 2 / squares if squares > 0 else 1.0
    rest = enlarged * (_rest(first) + _rest(second))
    return Variances(float(patients), max(sum(runs) - rest, 0.0), (least - 1, welch))


def _rest(each: Floats) -> float:
    """Variance of the mean over trainings by what belongs to one patient in one, of draws (trainings, resamples)."""
    trainings = len(each)
    return float((each - each.mean(axis=0)).var(axis=1).sum() / (trainings * (trainings - 1)))
