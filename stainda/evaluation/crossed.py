r"""Means and differences over patients AND trainings: the estimand is what another training would give other patients.

A strategy's scores are crossed: every training (seed) scored every patient. With mean scores of patients over trainings
and of trainings over patients, the variance of a contrast :math:`D = \sum_i w_i \bar y_i` of strategies is estimated by

.. math:: V = \frac{s^2_{patients}}{P} + \sum_i w_i^2 \frac{s^2_{trainings, i}}{S_i}

with the variance over P patients of the patient's own contrast, and that over the :math:`S_i` trainings of strategy i.
Noise that belongs to neither (patient × training) is in both terms, so V errs on the wide side. Trainings of two
strategies are taken as independent; where they share a start the estimate is wide again. Degrees of freedom follow
Satterthwaite (1946); the interval is that of Student's t, and p its inverse. For a single mean, whose variance over
trainings has few degrees of freedom, each term has its own quantile, :math:`\sqrt{t_P^2 v_P + t_S^2 v_S}` (Howe 1974).

``benchmarks/interval_coverage.py`` holds what that keeps of its promises. Where it would not keep them nothing is
promised: with fewer than :data:`~stainda.evaluation.bootstrap.FEW_PATIENTS` patients the range of the patients stands
in place of an interval; with one training an interval is over patients alone, named so, and nothing is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from stainda.config import EvaluationConfig
from stainda.evaluation.bootstrap import FEW_PATIENTS, intervals
from stainda.evaluation.scores import nanmean

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

INTERVAL, THESE_TRAININGS, RANGE, NONE = "interval", "interval, these trainings", "range", "none"
"""What ``low`` and ``high`` are: over patients and trainings; over patients, for these trainings only; the lowest and
highest patient; empty."""


@dataclass(frozen=True)
class Estimates:
    """Estimates of k columns. Arrays (k,), ``nan`` where something is not given, for the reason in ``notes``.

    Attributes:
        p: two-sided, that the contrast is 0; only of contrasts, only where ``kinds`` is :data:`INTERVAL`.
        error, freedom: square root of V and its degrees of freedom, where ``kinds`` is :data:`INTERVAL`.
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
    trainings of each strategy (strategies, c, c, k), trainings of each strategy, and patients (k,)."""

    mean: Floats
    of_patients: Floats
    of_trainings: Floats
    trainings: tuple[int, ...]
    n: npt.NDArray[np.int64]
    patients: Floats
    """The contrasts of every patient, float (c, patients, k); ``nan`` where one of its scores is not defined."""

    def variance(self, weights: Floats) -> tuple[Floats, Floats]:
        """V (k,) of a combination of the contrasts, weights (c, k), and its degrees of freedom (k,)."""
        people = np.einsum("ak,abk,bk->k", weights, self.of_patients, weights)
        runs = np.einsum("ak,sabk,bk->sk", weights, self.of_trainings, weights)
        total = people + runs.sum(axis=0)
        squares = people**2 / np.maximum(self.n - 1, 1)
        for one, size in zip(runs, self.trainings, strict=True):
            squares = squares + one**2 / max(size - 1, 1)
        freedom = np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)
        return total, freedom


def moments(parts: Sequence[Array], contrasts: Array) -> Moments:
    """Means and covariances of contrasts of strategies.

    Args:
        parts: per strategy float (trainings, patients, k); a patient counts where all are finite.
        contrasts: float (c, strategies), the weights of the strategies in each contrast.
    """
    weights = np.asarray(contrasts, float)
    defined = np.all([np.isfinite(one).all(axis=0) for one in parts], axis=0)
    n = defined.sum(axis=0).astype(np.int64)
    people = np.stack([np.where(defined, one.mean(axis=0), np.nan) for one in parts])
    patients = np.where(defined, np.einsum("cs,spk->cpk", weights, np.where(defined, people, 0.0)), np.nan)
    mean = nanmean(patients, axis=1)
    apart = np.where(defined, patients - mean[:, None], 0.0)
    of_patients = np.einsum("apk,bpk->abk", apart, apart) / np.maximum(n * (n - 1), 1)
    of_trainings = np.zeros((len(parts), *of_patients.shape))
    for index, one in enumerate(parts):
        if len(one) > 1:
            runs = nanmean(np.where(defined, one, np.nan), axis=1)
            spread = np.nan_to_num(runs.var(axis=0, ddof=1)) / len(one)
            of_trainings[index] = np.multiply.outer(np.outer(weights[:, index], weights[:, index]), spread)
    return Moments(mean, of_patients, of_trainings, tuple(len(one) for one in parts), n, patients)


def difference(first: Array, second: Array, settings: EvaluationConfig, generator: np.random.Generator) -> Estimates:
    """``first - second`` of two strategies, float (trainings, patients, k) each; the trainings may differ in number."""
    return _estimates(moments([first, second], np.array([[1.0, -1.0]])), settings, generator)


def single_mean(runs: Array, settings: EvaluationConfig, generator: np.random.Generator) -> Estimates:
    """Mean of one strategy, float (trainings, patients, k); there is no p."""
    return _estimates(moments([runs], np.array([[1.0]])), settings, generator)


def _estimates(found: Moments, settings: EvaluationConfig, generator: np.random.Generator) -> Estimates:
    n, mean, patients = found.n, found.mean[0], found.patients[0]
    k = len(n)
    low, high, p, error, freedom = (np.full(k, np.nan) for _ in range(5))
    known = min(found.trainings) > 1
    enough = n >= FEW_PATIENTS
    few = (n > 1) & ~enough
    if few.any():
        low[few], high[few] = np.nanmin(patients[:, few], axis=0), np.nanmax(patients[:, few], axis=0)
    if enough.any() and not known:
        spread = intervals(
            patients[:, enough], generator, resamples=settings.resamples, level=settings.level, method=settings.interval
        )
        low[enough], high[enough] = spread.low, spread.high
    if enough.any() and known:
        total, df = found.variance(np.ones((1, k)))
        if len(found.trainings) == 1:
            quantiles = [special.stdtrit(size - 1, 0.5 + settings.level / 2) for size in (n, found.trainings[0])]
            half = np.sqrt(
                quantiles[0] ** 2 * found.of_patients[0, 0] + quantiles[1] ** 2 * found.of_trainings[0, 0, 0]
            )
        else:
            half = special.stdtrit(df, 0.5 + settings.level / 2) * np.sqrt(total)
            p[enough] = _two_sided(mean, total, df, n)[enough]
        low[enough], high[enough] = (mean - half)[enough], (mean + half)[enough]
        error[enough], freedom[enough] = np.sqrt(total)[enough], df[enough]
    kinds = tuple(
        NONE if size < 2 else RANGE if size < FEW_PATIENTS else INTERVAL if known else THESE_TRAININGS for size in n
    )
    notes = tuple(note_of(int(size), min(found.trainings)) for size in n)
    return Estimates(mean, low, high, p, error, freedom, n, kinds, notes)


def _two_sided(mean: Floats, variance: Floats, freedom: Floats, n: Array) -> Floats:
    """p of Student's t; without any spread, the least p of n patients' signs: no distribution says more."""
    spread = variance > 1e-18 * np.maximum(mean**2, 1e-12)
    t = np.divide(np.abs(mean), np.sqrt(variance), out=np.zeros_like(mean), where=spread)
    p = 2 * special.stdtr(freedom, -t)
    return np.where(spread, p, np.where(np.abs(mean) > 1e-12, 2.0 ** (1 - n), 1.0))


def note_of(n: int, trainings: int) -> str:
    """What a number of patients and of trainings forbids to say."""
    if n == 0:
        return "no patient with a score"
    if n == 1:
        return "one patient: no interval"
    if n < FEW_PATIENTS:
        return f"{n} patients: their range, no interval and no test (from {FEW_PATIENTS} patients on)"
    if trainings < 2:
        return "one training each: the interval holds for these trainings only, and nothing is tested"
    return ""


@dataclass(frozen=True)
class Shares:
    """``first / second`` of two contrasts, arrays (k,); ``low`` and ``high`` are the ends of Fieller's interval.

    ``nan`` where the denominator could not be told from 0.
    """

    share: Floats
    low: Floats
    high: Floats


def fieller(found: Moments, level: float) -> Shares:
    """Ratio of the first to the second contrast with Fieller's interval (1954).

    The values r for which ``first - r second`` could be 0. Where the denominator's own interval holds 0 that set is not
    an interval, and no ratio is given.
    """
    top, bottom = found.mean[:2]
    alone = np.eye(len(found.mean))[:2, :, None] * np.ones_like(top)
    freedom = np.minimum(found.variance(alone[0])[1], found.variance(alone[1])[1])
    squared = special.stdtrit(freedom, 0.5 + level / 2) ** 2
    cover = found.of_patients + found.of_trainings.sum(axis=0)
    a = bottom**2 - squared * cover[1, 1]
    b = top * bottom - squared * cover[0, 1]
    c = top**2 - squared * cover[0, 0]
    given = (a > 1e-12 * bottom**2) & (found.n >= FEW_PATIENTS)
    share, low, high = (np.full(len(top), np.nan) for _ in range(3))
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    np.divide(top, bottom, out=share, where=given)
    np.divide(b - root, a, out=low, where=given)
    np.divide(b + root, a, out=high, where=given)
    return Shares(share, low, high)
