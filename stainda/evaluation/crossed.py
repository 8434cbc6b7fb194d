r"""Means and differences over patients AND trainings: the estimand is what another training would give other patients.

A strategy's scores are crossed: every training (seed) scored every patient. With mean scores of patients over trainings
and of trainings over patients, the variance of a contrast :math:`D = \sum_i w_i \bar y_i` of strategies is estimated by

.. math:: V = \frac{s^2_{patients}}{P} + \sum_i w_i^2 \frac{s^2_{trainings, i}}{S_i}

with the variance over P patients of the patient's own contrast, and that over the :math:`S_i` trainings of strategy i.
Noise that belongs to neither (patient × training) is in both terms and taken out of one. Trainings of two strategies
are taken as independent; where they share a start the estimate is wide. How intervals and p follow says ``widths``.

``benchmarks/interval_coverage.py`` holds what that keeps of its promises. Where it would not keep them nothing is
promised: with fewer than :data:`~stainda.evaluation.bootstrap.FEW_PATIENTS` patients the range of the patients stands
in place of an interval, and with one training as well: an interval over patients alone covers 43 to 78 % of what other
trainings would give where they vary by .03. Nothing is tested then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from stainda.arrays import Array
from stainda.config import EvaluationConfig
from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.scores import nanmean
from stainda.evaluation.widths import Spread

Floats = npt.NDArray[np.float64]

INTERVAL, RANGE, NONE = "interval", "range", "none"
"""What ``low`` and ``high`` are: an interval over patients and trainings; the lowest and highest patient; empty."""
FIRST_STEP, DOUBLINGS, HALVINGS = 1e-3, 60, 60
"""In the search of the ends of a ratio's interval: the first step away, and how often it is doubled, then halved."""


@dataclass(frozen=True)
class Estimates:
    """Estimates of k columns. Arrays (k,), ``nan`` where something is not given, for the reason in ``notes``.

    Attributes:
        p: two-sided, that the contrast is 0; only of contrasts, only where ``kinds`` is :data:`INTERVAL`.
        error, freedom: Student's t about the mean with these has the interval given, where ``kinds`` is
            :data:`INTERVAL`.
        n: patients.
        kinds: what ``low`` and ``high`` are.
    """

    mean: Floats
    low: Floats
    high: Floats
    p: Floats
    error: Floats
    freedom: Floats
    n: npt.NDArray[np.int64]
    kinds: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Moments:
    """Contrasts (c of them) of k columns: means (c, k), covariances (c, c, k) of the means over patients and over
    trainings of each strategy (strategies, c, c, k), of what belongs to neither (c, c, k), trainings of each strategy,
    and patients (k,)."""

    mean: Floats
    of_patients: Floats
    of_trainings: Floats
    of_rest: Floats
    trainings: tuple[int, ...]
    n: npt.NDArray[np.int64]
    patients: Floats
    """The contrasts of every patient, float (c, patients, k); ``nan`` where one of its scores is not defined."""

    def spread(self, weights: Floats) -> Spread:
        """Of a combination of the contrasts, weights (c, k)."""
        return Spread(
            np.einsum("ak,abk,bk->k", weights, self.of_patients, weights),
            np.einsum("ak,sabk,bk->sk", weights, self.of_trainings, weights),
            np.einsum("ak,abk,bk->k", weights, self.of_rest, weights),
            self.n,
            self.trainings,
        )


def moments(parts: Sequence[Array], contrasts: Array) -> Moments:
    """Means and covariances of contrasts of strategies.

    Args:
        parts: per strategy float (trainings, patients, k); a patient counts where all are finite.
        contrasts: float (c, strategies), the weights of the strategies in each contrast.
    """
    weights = np.asarray(contrasts, float)
    defined = np.all([np.isfinite(part).all(axis=0) for part in parts], axis=0)
    n = defined.sum(axis=0).astype(np.int64)
    people = np.stack([np.where(defined, part.mean(axis=0), np.nan) for part in parts])
    patients = np.where(defined, np.einsum("cs,spk->cpk", weights, np.where(defined, people, 0.0)), np.nan)
    mean = nanmean(patients, axis=1)
    apart = np.where(defined, patients - mean[:, None], 0.0)
    of_patients = np.einsum("apk,bpk->abk", apart, apart) / np.maximum(n * (n - 1), 1)
    of_trainings, of_rest = np.zeros((len(parts), *of_patients.shape)), np.zeros(of_patients.shape)
    for index, part in enumerate(parts):
        if len(part) > 1:
            scores = np.where(defined, part, np.nan)
            runs = nanmean(scores, axis=1)
            spread = np.nan_to_num(runs.var(axis=0, ddof=1)) / len(part)
            both = np.outer(weights[:, index], weights[:, index])
            of_trainings[index] = np.multiply.outer(both, spread)
            left = scores - runs[:, None] - scores.mean(axis=0) + nanmean(runs, axis=0)
            degrees = np.maximum((len(part) - 1) * (n - 1) * len(part) * n, 1)
            of_rest += np.multiply.outer(both, np.nansum(left**2, axis=(0, 1)) / degrees)
    return Moments(mean, of_patients, of_trainings, of_rest, tuple(len(part) for part in parts), n, patients)


def difference(first: Array, second: Array, settings: EvaluationConfig) -> Estimates:
    """``first - second`` of two strategies, float (trainings, patients, k) each; the trainings may differ in number."""
    return _estimates(moments([first, second], np.array([[1.0, -1.0]])), settings)


def single_mean(runs: Array, settings: EvaluationConfig) -> Estimates:
    """Mean of one strategy, float (trainings, patients, k); there is no p."""
    return _estimates(moments([runs], np.array([[1.0]])), settings)


def _estimates(result: Moments, settings: EvaluationConfig) -> Estimates:
    n, mean, patients = result.n, result.mean[0], result.patients[0]
    k = len(n)
    low, high, p, error, freedom = (np.full(k, np.nan) for _ in range(5))
    enough = (n >= FEW_PATIENTS) & (min(result.trainings) > 1)
    few = (n > 1) & ~enough
    if few.any():
        low[few], high[few] = np.nanmin(patients[:, few], axis=0), np.nanmax(patients[:, few], axis=0)
    if enough.any():
        spread = result.spread(np.ones((1, k))).where(enough)
        tail = 0.5 - settings.level / 2
        half = spread.half_width(tail)
        if len(result.trainings) > 1:
            p[enough] = spread.p_of(mean[enough])
        low[enough], high[enough] = mean[enough] - half, mean[enough] + half
        freedom[enough] = spread.freedom
        error[enough] = half / np.abs(special.stdtrit(spread.freedom, tail))
    kinds = tuple(NONE if size < 2 else INTERVAL if given else RANGE for size, given in zip(n, enough, strict=True))
    notes = tuple(note_of(int(size), min(result.trainings)) for size in n)
    return Estimates(mean, low, high, p, error, freedom, n, kinds, notes)


def note_of(n: int, trainings: int) -> str:
    """What a number of patients and of trainings forbids to say."""
    if n == 0:
        return "no patient with a score"
    if n == 1:
        return "one patient: no interval"
    if n < FEW_PATIENTS:
        return f"{n} patients: their range, no interval and no test (from {FEW_PATIENTS} patients on)"
    if trainings < 2:
        return "one training each: the range of the patients, no interval and no test"
    return ""


@dataclass(frozen=True)
class Shares:
    """``first / second`` of two contrasts, arrays (k,); ``low`` and ``high`` are the ends of Fieller's interval.

    ``nan`` where the denominator could not be distinguished from 0.
    """

    share: Floats
    low: Floats
    high: Floats


def fieller(contrasts: Moments, level: float) -> Shares:
    """Ratio of the first to the second contrast, with Fieller's interval (1954) by the half widths of ``widths``.

    The values r for which ``first - r second`` could be 0, so that the interval holds 0 where that of the first
    contrast does, and 1 where that of ``first - second`` does. Where the denominator's own interval holds 0 that set is
    not an interval, and no ratio is given.
    """
    top, bottom = contrasts.mean[:2]
    weights = np.zeros_like(contrasts.mean)

    def outside(ratio: Floats) -> npt.NDArray[np.bool_]:
        """Whether ``first - ratio second`` is shown not to be 0."""
        weights[0], weights[1] = 1.0, -ratio
        return np.asarray(np.abs(top - ratio * bottom) > contrasts.spread(weights).half_width(tail))

    tail = 0.5 - level / 2
    second = np.zeros_like(contrasts.mean)
    second[1] = 1.0
    width = contrasts.spread(second).half_width(tail)
    given = (np.abs(bottom) > width * (1 + 1e-9)) & (contrasts.n >= FEW_PATIENTS)
    share = np.full(len(top), np.nan)
    np.divide(top, bottom, out=share, where=given)
    low, high = (_end(share, given, outside, side) for side in (-1.0, 1.0))
    return Shares(share, low, high)


def _end(
    share: Floats, given: npt.NDArray[np.bool_], outside: Callable[[Floats], npt.NDArray[np.bool_]], side: float
) -> Floats:
    """Where the interval around ``share`` ends towards ``side``, by doubling steps and then halving them."""
    if not given.any():
        return np.full(len(share), np.nan)
    inner, step = np.where(given, share, 0.0), np.full(len(share), FIRST_STEP)
    outer = inner + side * step
    for _ in range(DOUBLINGS):
        still = given & ~outside(outer)
        inner, step = np.where(still, outer, inner), np.where(still, 2 * step, step)
        outer = np.where(still, outer + side * step, outer)
        if not still.any():
            break
    reached = given & outside(outer)
    for _ in range(HALVINGS):
        middle = (inner + outer) / 2
        beyond = outside(middle)
        inner, outer = np.where(beyond, inner, middle), np.where(beyond, middle, outer)
    return np.where(reached, outer, np.where(given, side * np.inf, np.nan))
