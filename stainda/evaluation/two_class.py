r"""Scores of probabilities against labels of two classes, with a bootstrap over patients and trainings.

AUROC, average precision and balanced accuracy are no means over patients, so that the formulas of ``crossed`` do not
hold for them. They are resampled instead, crossed: patients are drawn with replacement within their label, with all
that belongs to them, and trainings are drawn with replacement too; a resample is the mean over the drawn trainings of
the score of the drawn patients. All scores, strategies and domains share the draws of patients, so that differences
stay paired. Intervals are the quantiles of the resamples taken further out for few patients (``expanded_interval`` of
``bootstrap``, by the size of the smaller class).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stainda.arrays import Array
from stainda.evaluation.bootstrap import expanded_interval, resampling_weights

Floats = npt.NDArray[np.float64]
LEAST_OF_A_CLASS = 6
"""Patients of each label below which no interval is given."""


def auroc(scores: Array, labels: Array, weights: Array) -> Floats:
    """Probability that a positive unit scores higher than a negative one (ties: half), of every resample.

    Args:
        scores: float (n,). labels: bool (n,). weights: how often each unit counts, (r, n).

    Returns:
        float (r,); ``nan`` where a resample has units of one label only.
    """
    above = scores[labels][:, None], scores[~labels][None, :]
    wins = (above[0] > above[1]) + 0.5 * (above[0] == above[1])
    positive, negative = weights[:, labels], weights[:, ~labels]
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _ratio(np.einsum("rp,pn,rn->r", positive, wins, negative, optimize=True), pairs)


def average_precision(scores: Array, labels: Array, weights: Array) -> Floats:
    """Mean precision at the scores of the positive units (ties are passed together); arguments as of :func:`auroc`."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.searchsorted(-ordered, -ordered, side="right") - 1  # the last unit of each group of ties
    hits = weights[:, order] * labels[order]
    seen, right = weights[:, order].cumsum(axis=1)[:, last], hits.cumsum(axis=1)[:, last]
    precision = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
    return _ratio((hits * precision).sum(axis=1), hits.sum(axis=1))


def balanced_accuracy(called: Array, labels: Array, weights: Array) -> Floats:
    """Mean of sensitivity and specificity of calls, bool (n,); other arguments as of :func:`auroc`."""
    right = weights * (called == labels)
    sides = [_ratio(right[:, side].sum(axis=1), weights[:, side].sum(axis=1)) for side in (labels, ~labels)]
    return np.mean(sides, axis=0)


Measure = Callable[[Array, Array, Array, float], Floats]
MEASURES: Mapping[str, Measure] = {
    "auroc": lambda scores, labels, weights, _: auroc(scores, labels, weights),
    "average_precision": lambda scores, labels, weights, _: average_precision(scores, labels, weights),
    "balanced_accuracy": lambda scores, labels, weights, at: balanced_accuracy(scores >= at, labels, weights),
}
"""By name: of scores, labels, weights, and the threshold from which a unit is called positive."""


@dataclass(frozen=True, eq=False)
class Units:
    """What is scored: patients, or slides of patients.

    Attributes:
        patients: of each unit. labels: bool (n,). domains: of each unit.
    """

    patients: Sequence[str]
    labels: npt.NDArray[np.bool_]
    domains: Sequence[str]

    def inside(self, domain: str) -> npt.NDArray[np.bool_]:
        return np.asarray(self.domains) == domain


@dataclass(frozen=True, eq=False)
class Trained:
    """What the trainings of one method say: scores (trainings, n), and the threshold of each training."""

    scores: Floats
    thresholds: Floats


@dataclass(frozen=True, eq=False)
class Resampled:
    """A score of a method: ``value`` (trainings,) as it is; ``draws`` (resamples,) of the bootstrap of patients and
    trainings, and ``each`` (trainings, resamples) of that of patients alone."""

    value: Floats
    draws: Floats
    each: Floats

    @property
    def mean(self) -> float:
        return float(self.value.mean())


class CrossedBootstrap:
    """Resamples of the patients of some units, which all methods share.

    Args:
        generator: draws patients, and the trainings of each method.
    """

    def __init__(self, units: Units, resamples: int, generator: np.random.Generator) -> None:
        self.units = units
        names = list(dict.fromkeys(units.patients))
        place = {name: index for index, name in enumerate(names)}
        self._patient = np.array([place[name] for name in units.patients], int)
        strata = [self._stratum(index) for index in range(len(names))]
        drawn = resampling_weights(len(names), resamples, generator, strata)
        self._weights = drawn[:, self._patient]
        self._generator = generator

    def score(self, measure: str, trained: Trained, domain: str) -> Resampled:
        """A measure of a method in one domain."""
        inside = self.units.inside(domain)
        labels, formula = self.units.labels[inside], MEASURES[measure]
        once = np.ones((1, int(inside.sum())))
        parts = list(zip(trained.scores[:, inside], trained.thresholds, strict=True))
        value = np.array([formula(scores, labels, once, at)[0] for scores, at in parts])
        resampled = np.stack([formula(scores, labels, self._weights[:, inside], at) for scores, at in parts])
        return Resampled(value, self._over_trainings(resampled), resampled)

    def counts(self, *domains: str) -> tuple[int, int]:
        """Patients with a positive unit, and with a negative one, of domains together."""
        inside = np.isin(np.asarray(self.units.domains), domains)
        sides = (inside & self.units.labels, inside & ~self.units.labels)
        return len({*self._patient[sides[0]].tolist()}), len({*self._patient[sides[1]].tolist()})

    def _over_trainings(self, resampled: Floats) -> Floats:
        """Means over drawn trainings: (trainings, resamples) to (resamples,)."""
        n, resamples = resampled.shape
        drawn = resampling_weights(n, resamples, self._generator) / n
        return np.asarray((drawn.T * resampled).sum(axis=0))

    def _stratum(self, patient: int) -> str:
        labels = {*self.units.labels[self._patient == patient].tolist()}
        return "both" if len(labels) > 1 else "positive" if True in labels else "negative"


def interval(draws: Floats, counts: tuple[int, int], level: float) -> tuple[float, float, str]:
    """Ends of the interval of resamples, and why there is none.

    Args:
        counts: patients with a positive and with a negative unit.
    """
    least = min(counts)
    known = draws[np.isfinite(draws)]
    if least < LEAST_OF_A_CLASS:
        words = f"{counts[0]} positive and {counts[1]} negative patients"
        return float("nan"), float("nan"), f"{words}: no interval (from {LEAST_OF_A_CLASS} of each on)"
    if not len(known):
        return float("nan"), float("nan"), "no resample has a score: no interval"
    if np.ptp(known) < 1e-12:  # as of a perfect ranking: resamples do not know by how much others would differ
        return float("nan"), float("nan"), "every resample gives the same: no interval"
    low, high = expanded_interval(known, least, level)
    return float(low), float(high), ""


def _ratio(top: Array, bottom: Array) -> Floats:
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=np.asarray(bottom) > 0)
