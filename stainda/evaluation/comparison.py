"""Paired comparisons of strategies: is a difference more than the luck of these patients?

Scores of two strategies on the same patient are compared; the patient is the unit. Nothing here assumes a normal
distribution, which scores between 0 and 1 of six patients never show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stainda.evaluation.scores import nanmean

Array = npt.NDArray[Any]
EXACT_UP_TO = 14
"""Up to this many patients all 2^n sign patterns are tried."""


@dataclass(frozen=True)
class PairedTest:
    """Tests of k columns of differences. Arrays (k,); ``p`` is ``nan`` with fewer than two patients."""

    mean: npt.NDArray[np.float64]
    p: npt.NDArray[np.float64]
    smallest_p: npt.NDArray[np.float64]
    n: npt.NDArray[np.int64]


def sign_flip_test(differences: Array, generator: np.random.Generator, resamples: int = 20_000) -> PairedTest:
    """Two-sided permutation test that the mean paired difference is 0 (Fisher 1935; Pitman 1937).

    Under the hypothesis that a patient's two scores could be exchanged, every sign of every difference is as likely.
    p is the share of sign patterns whose mean is at least as far from 0 as the one observed. All patterns are tried
    up to :data:`EXACT_UP_TO` patients; beyond, ``resamples`` random ones, and p counts the observed one among them.

    With n patients p cannot be smaller than 2 / 2^n: five patients can never reach 0.05.

    Args:
        differences: float (n_patients, k); ``nan`` where a patient lacks one of the two scores.
    """
    differences = np.asarray(differences, float)
    k = differences.shape[1]
    defined = np.isfinite(differences)
    n = defined.sum(axis=0)
    values = np.where(defined, differences, 0.0)
    p, smallest = np.full(k, np.nan), np.full(k, np.nan)
    seed = int(generator.integers(2**63))
    patterns: dict[bytes, list[int]] = {}
    for column in range(k):
        patterns.setdefault(defined[:, column].tobytes(), []).append(column)
    for columns in patterns.values():
        rows = defined[:, columns[0]]
        count = int(rows.sum())
        if count < 2:
            continue
        inside = values[rows][:, columns]
        observed = np.abs(inside.sum(axis=0))
        slack = 1e-12 * np.abs(inside).sum(axis=0) + 1e-300  # ties count as extreme, also after rounding
        exact = count <= EXACT_UP_TO
        signs = _all_signs(count) if exact else _random_signs(count, resamples, np.random.default_rng(seed))
        extreme = (np.abs(signs @ inside) >= observed - slack).sum(axis=0)
        p[columns] = extreme / len(signs) if exact else (extreme + 1) / (len(signs) + 1)
        smallest[columns] = 2 / 2**count if exact else 1 / (len(signs) + 1)
    return PairedTest(nanmean(differences, axis=0), p, smallest, n.astype(np.int64))


def wilcoxon_test(differences: Array, generator: np.random.Generator, resamples: int = 20_000) -> PairedTest:
    """Two-sided Wilcoxon signed-rank test: the sign-flip test of ranks, so that one outlier counts less.

    Differences are ranked by size within each column, ties sharing their mean rank and zeros ranked but counted for
    neither side (Pratt 1959). p is exact up to :data:`EXACT_UP_TO` patients, also with ties, for which tables are not.
    """
    differences = np.asarray(differences, float)
    ranks = mean_ranks(np.abs(differences))
    test = sign_flip_test(np.sign(differences) * ranks, generator, resamples)
    return PairedTest(nanmean(differences, axis=0), test.p, test.smallest_p, test.n)


def mean_ranks(values: Array) -> npt.NDArray[np.float64]:
    """Mean ranks from 1 within each column (n, k); ``nan`` has no rank."""
    smaller = (values[None, :, :] < values[:, None, :]).sum(axis=1)
    equal = (values[None, :, :] == values[:, None, :]).sum(axis=1)
    return np.where(np.isfinite(values), smaller + (equal + 1) / 2, np.nan)


def holm(p: Array) -> npt.NDArray[np.float64]:
    """Holm's step-down adjusted p values (1979): controls the chance of any false claim in the family.

    ``nan`` entries are no members of the family and stay ``nan``.
    """
    p = np.asarray(p, float)
    out = np.full(p.shape, np.nan)
    members = np.flatnonzero(np.isfinite(p))
    ranked = members[np.argsort(p[members], kind="stable")]
    steps = (len(members) - np.arange(len(members))) * p[ranked]
    out[ranked] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return out


def _all_signs(n: int) -> npt.NDArray[np.float64]:
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return np.where(bits == 1, 1.0, -1.0)


def _random_signs(n: int, resamples: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.where(generator.random((resamples, n)) < 0.5, -1.0, 1.0)
