"""Comparison of groups of patients: permutation tests, intervals, and the false discovery rate over measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from stainda.evaluation.bootstrap import resampling_weights, weighted_means

Floats = npt.NDArray[np.float64]
EXACT = 5000
LEAST = 3
"""Patients that each group needs for a test: of 3 and 3 the smallest p is 0.1."""


@dataclass(frozen=True)
class Difference:
    """``second - first`` of the means of a measure over patients.

    ``p`` is two-sided, by permutation of the patients; ``q`` is adjusted over all measures (Benjamini, Hochberg 1995).
    """

    measure: str
    first: str
    second: str
    n_first: int
    n_second: int
    mean_first: float
    mean_second: float
    difference: float
    low: float
    high: float
    p: float
    q: float
    note: str


def compare(
    values: Mapping[str, Mapping[str, float]],
    groups: Mapping[str, str],
    rng: np.random.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> list[Difference]:
    """Compare every pair of groups in every measure.

    Args:
        values: measure -> patient -> value; patients without a value are left out of that measure.
        groups: patient -> group; patients without one are left out.
    """
    names = sorted({group for group in groups.values() if group})
    differences: list[Difference] = []
    for measure, by_patient in values.items():
        of = {
            name: np.array([v for p, v in by_patient.items() if groups.get(p) == name and np.isfinite(v)])
            for name in names
        }
        differences += [
            _difference(measure, a, b, of, rng, resamples=resamples, level=level) for a, b in combinations(names, 2)
        ]
    adjusted = false_discovery(np.array([difference.p for difference in differences]))
    return [replace(difference, q=float(q)) for difference, q in zip(differences, adjusted, strict=True)]


def _difference(
    measure: str,
    first: str,
    second: str,
    of: Mapping[str, Floats],
    rng: np.random.Generator,
    *,
    resamples: int,
    level: float,
) -> Difference:
    a, b = of[first], of[second]
    mean_a, mean_b = (float(values.mean()) if len(values) else float("nan") for values in (a, b))
    low = high = p = float("nan")
    note = ""
    if min(len(a), len(b)) < LEAST:
        note = f"fewer than {LEAST} patients in a group: no test"
    else:
        p = permutation_p(a, b, rng, resamples)
        low, high = _interval(a, b, rng, resamples, level)
    return Difference(
        measure, first, second, len(a), len(b), mean_a, mean_b, mean_b - mean_a, low, high, p, float("nan"), note
    )


def permutation_p(a: Floats, b: Floats, rng: np.random.Generator, resamples: int = 2000) -> float:
    """Two-sided p of the studentised difference of means when patients are exchanged between the groups.

    Studentised (A. Janssen 1997), so that the level also holds where the groups differ in spread. All exchanges where
    there are at most :data:`EXACT`, else random ones.
    """
    both, n = np.concatenate([a, b]), len(a)
    if comb(len(both), n) <= EXACT:
        chosen = np.array(list(combinations(range(len(both)), n)))
        exact = True
    else:
        chosen = np.argsort(rng.random((resamples, len(both))), axis=1)[:, :n]
        exact = False
    inside = np.zeros((len(chosen), len(both)), bool)
    np.put_along_axis(inside, chosen, True, axis=1)
    t = np.abs(_welch(np.where(inside, both, np.nan), np.where(inside, np.nan, both)))
    observed = abs(float(_welch(a[None], b[None])[0]))
    extreme = int((t >= observed * (1 - 1e-9) - 1e-12).sum())
    return extreme / len(t) if exact else (extreme + 1) / (len(t) + 1)


def _welch(a: Floats, b: Floats) -> Floats:
    """Welch's t of the rows."""
    size = [np.isfinite(values).sum(axis=1) for values in (a, b)]
    spread = sum(np.nanvar(values, axis=1, ddof=1) / n for values, n in zip((a, b), size, strict=True))
    gap = np.nanmean(b, axis=1) - np.nanmean(a, axis=1)
    return np.divide(gap, np.sqrt(spread), out=np.where(gap == 0, 0.0, np.inf), where=spread > 0)


def _interval(a: Floats, b: Floats, rng: np.random.Generator, resamples: int, level: float) -> tuple[float, float]:
    """Bootstrap-t interval of the difference: patients are drawn within their groups."""
    drawn = [resampling_weights(len(values), resamples, rng) for values in (a, b)]
    means = [weighted_means(x[:, None], w)[:, 0] for x, w in zip((a, b), drawn, strict=True)]
    squares = [weighted_means(x[:, None] ** 2, w)[:, 0] for x, w in zip((a, b), drawn, strict=True)]
    spread = sum((s - m**2) / (len(x) - 1) for s, m, x in zip(squares, means, (a, b), strict=True))
    t = (means[1] - means[0] - (b.mean() - a.mean())) / np.sqrt(np.maximum(spread, 1e-300))
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    usable = t[np.isfinite(t) & (np.abs(t) < 1e6)]  # a resample of one patient alone has no spread
    tail = (1 - level) / 2
    low, high = np.quantile(usable, [tail, 1 - tail]) if len(usable) else (np.nan, np.nan)
    middle = b.mean() - a.mean()
    return float(middle - high * error), float(middle - low * error)


def false_discovery(p: Floats) -> Floats:
    """Adjusted p values of Benjamini and Hochberg (1995); those that are not defined stay so and do not count."""
    from scipy.stats import false_discovery_control

    q, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q
