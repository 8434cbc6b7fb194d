"""Do counts and areas agree? Two ways of measuring the same thing, compared as clinical chemistry does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from stainda.arrays import Array
from stainda.errors import StaindaError
from stainda.evaluation.bootstrap import FEW_PATIENTS, expanded_interval, resampling_weights


@dataclass(frozen=True)
class Agreement:
    """Differences ``found - there`` of n pairs. Ends are 95 % intervals; ``nan`` where n does not allow a number.

    Attributes:
        bias: mean difference, with its interval.
        lower, upper: limits of agreement, ``bias ± 1.96 SD``: where 95 % of differences of new slides are expected.
        lower_interval, upper_interval: of the limits themselves.
        concordance: Lin's coefficient; 1 only where all pairs are equal.
    """

    n: int
    bias: float
    bias_interval: tuple[float, float]
    lower: float
    lower_interval: tuple[float, float]
    upper: float
    upper_interval: tuple[float, float]
    concordance: float


def bland_altman(predicted: Array, annotated: Array) -> Agreement:
    """Limits of agreement (Bland & Altman 1986; intervals after their 1999 paper, section 2.1).

    The standard error of a limit is taken as ``sqrt(1/n + 1.96² / (2 (n - 1))) SD``. Pairs should be independent: give
    one pair per patient, not per slide.

    Args:
        predicted, annotated: float (n,), of the same unit; pairs with a ``nan`` are left out.

    Raises:
        StaindaError: the lengths differ.
    """
    first, second = np.asarray(predicted, float), np.asarray(annotated, float)
    if first.shape != second.shape or first.ndim != 1:
        raise StaindaError(f"agreement needs pairs, found shapes {first.shape} and {second.shape}")
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    difference, n = first - second, int(both.sum())
    none = (float("nan"), float("nan"))
    if n == 0:
        return Agreement(0, np.nan, none, np.nan, none, np.nan, none, np.nan)
    bias = float(difference.mean())
    if n < 3:
        return Agreement(n, bias, none, np.nan, none, np.nan, none, np.nan)
    spread = float(difference.std(ddof=1))
    t = float(special.stdtrit(n - 1, 0.975))
    of_bias = t * spread / np.sqrt(n)
    of_limit = t * spread * np.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))
    lower, upper = bias - 1.96 * spread, bias + 1.96 * spread
    return Agreement(
        n, bias, (bias - of_bias, bias + of_bias), lower, (lower - of_limit, lower + of_limit),
        upper, (upper - of_limit, upper + of_limit), concordance(first, second),
    )  # fmt: skip


def concordance(first: Array, second: Array) -> float:
    """Lin's concordance correlation coefficient (1989): ``2 s_xy / (s_x² + s_y² + (mean_x - mean_y)²)``.

    With variances over n, as Lin defines it. ``nan`` for fewer than two pairs, and where all values are one constant
    (nothing varies, so nothing can be said).
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    if len(x) < 2:
        return float("nan")
    below = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / below) if below > 0 else float("nan")


def concordance_interval(
    first: Array, second: Array, generator: np.random.Generator, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float, str]:
    """How well the concordance of n pairs, one per patient, is known.

    From six pairs on the bootstrap over pairs, its quantiles taken outwards for small n as those of means are
    (:func:`~stainda.evaluation.bootstrap.expanded_interval`). Resamples in which few pairs stand again and again vary
    little and have a small coefficient: with six pairs the low end is far down. From three to five pairs the lowest and
    the highest value with one pair left out: a range, no interval.

    Returns:
        Low, high and what they are: ``interval``, ``range`` or ``none`` (``nan``: fewer than three pairs, or no
        resample in which anything varies).
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    if len(x) < 3:
        return float("nan"), float("nan"), "none"
    if len(x) < FEW_PATIENTS:
        weights, kind = np.ones((len(x), len(x))) - np.eye(len(x)), "range"
    else:
        weights, kind = resampling_weights(len(x), resamples, generator), "interval"
    values = _weighted_concordance(x, y, weights)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan"), "none"
    if kind == "range":
        return float(values.min()), float(values.max()), kind
    low, high = expanded_interval(values, len(x), level)
    return float(low), float(high), kind


def _weighted_concordance(x: Array, y: Array, weights: Array) -> Array:
    """The concordance under each row of weights (r, n), float (r,); ``nan`` where nothing varies."""
    x, y = x - x.mean(), y - x.mean()  # both moved alike: small numbers lose nothing
    shares = weights / weights.sum(1, keepdims=True)
    mean_x, mean_y = shares @ x, shares @ y
    together = shares @ (x * y) - mean_x * mean_y
    below = shares @ x**2 - mean_x**2 + shares @ y**2 - mean_y**2 + (mean_x - mean_y) ** 2
    return np.divide(2 * together, below, out=np.full(len(below), np.nan), where=below > 1e-15)
