r"""Ranking several strategies at once, and sizes of effects.

Patients rank the strategies; Friedman's test asks whether the mean ranks differ at all, Nemenyi's critical difference
which of them do (Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006, with patients in
the place of data sets). Nemenyi compares all pairs and is therefore weaker than the comparison with one baseline
(``comparison``); use it for the question "which are the same?", not for "is this better than the baseline?".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from stainda.evaluation.comparison import mean_ranks

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Ranking:
    """Mean ranks (1 is best) of k strategies over n patients.

    Attributes:
        ranks: float (k,); ``nan`` with fewer than two patients or strategies.
        p: Friedman's test by the chi-square approximation, corrected for ties; ``nan`` where it cannot be said.
        critical_difference: mean ranks closer than this were not shown to differ (Nemenyi).
        pairwise: Nemenyi p of every pair, float (k, k).
        n: patients with a score of every strategy.
        note: what the numbers forbid to say.
    """

    ranks: npt.NDArray[np.float64]
    p: float
    critical_difference: float
    pairwise: npt.NDArray[np.float64]
    n: int
    note: str

    def groups(self) -> list[list[int]]:
        """Sets of strategies not shown to differ, the bars of a critical-difference diagram."""
        order = [int(index) for index in np.argsort(self.ranks, kind="stable")]
        found: list[list[int]] = []
        for start in range(len(order)):
            run = [
                index
                for index in order[start:]
                if self.ranks[index] - self.ranks[order[start]] <= self.critical_difference
            ]
            if len(run) > 1 and not any(set(run) <= set(other) for other in found):
                found.append(run)
        return found


def rank_strategies(scores: Array, level: float = 0.95) -> Ranking:
    """Friedman's test and Nemenyi's critical difference.

    Args:
        scores: float (n_patients, k), higher is better; patients lacking any score are left out, and told.
    """
    scores = np.asarray(scores, float)
    complete = scores[np.isfinite(scores).all(axis=1)]
    n, k = complete.shape
    left_out = len(scores) - n
    note = f"{left_out} patients without a score of every strategy are left out" if left_out else ""
    if n < 2 or k < 2:
        why = "one patient: no ranking can be tested" if n == 1 else "nothing to rank"
        empty = np.full((k, k), np.nan)
        return Ranking(np.full(k, np.nan), np.nan, np.nan, empty, n, "; ".join(filter(None, [why, note])))
    ranks = mean_ranks(-complete.T).T
    means = ranks.mean(axis=0)
    p = _friedman(ranks)
    error = np.sqrt(k * (k + 1) / (6 * n))
    from scipy import stats  # slow to import

    critical = float(stats.studentized_range.ppf(level, k, np.inf) / np.sqrt(2) * error)
    gaps = np.abs(means[:, None] - means[None, :]) / error * np.sqrt(2)
    pairwise = np.asarray(stats.studentized_range.sf(gaps, k, np.inf), float)
    np.fill_diagonal(pairwise, 1.0)
    if n < 10:
        note = "; ".join(filter(None, [f"only {n} patients: Friedman's p is approximate", note]))
    return Ranking(means, p, critical, pairwise, n, note)


def _friedman(ranks: Array) -> float:
    """p of Friedman's chi-square with the correction for ties; 1 where every patient ranks all alike."""
    n, k = ranks.shape
    spread = float(((ranks - (k + 1) / 2) ** 2).sum())
    if spread == 0:
        return 1.0
    between = n * float(((ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum())
    chi_square = (k - 1) * n * between / spread
    return float(special.chdtrc(k - 1, chi_square))


@dataclass(frozen=True)
class EffectSizes:
    """Sizes of paired differences of k columns; arrays (k,), ``nan`` with fewer than two patients.

    Attributes:
        standardised: mean over standard deviation of the differences, with Hedges' correction for small samples (the
            paired Cohen's d_z); infinite where every patient differs alike.
        rank_biserial: (sum of ranks of gains - of losses) / sum of all ranks, from -1 to 1 (Kerby 2014).
        share_higher: share of patients with a gain, ties counting half.
    """

    standardised: npt.NDArray[np.float64]
    rank_biserial: npt.NDArray[np.float64]
    share_higher: npt.NDArray[np.float64]


def effect_sizes(differences: Array) -> EffectSizes:
    """Effect sizes of paired differences, float (n_patients, k); ``nan`` where a patient lacks a score."""
    differences = np.asarray(differences, float)
    k = differences.shape[1]
    standardised, biserial, higher = (np.full(k, np.nan) for _ in range(3))
    ranks = mean_ranks(np.where(differences == 0, np.nan, np.abs(differences)))
    for column in range(k):
        values = differences[np.isfinite(differences[:, column]), column]
        n = len(values)
        if n < 2:
            continue
        spread, mean = values.std(ddof=1), values.mean()
        hedges = _hedges(n)
        if np.isclose(spread, 0, atol=1e-12 * max(1.0, abs(mean))):
            standardised[column] = 0.0 if np.isclose(mean, 0) else np.copysign(np.inf, mean)
        else:
            standardised[column] = hedges * mean / spread
        total = np.nansum(ranks[:, column])
        signs = np.sign(differences[:, column])
        biserial[column] = np.nansum(signs * ranks[:, column]) / total if total else 0.0
        higher[column] = (values > 0).mean() + 0.5 * (values == 0).mean()
    return EffectSizes(standardised, biserial, higher)


def _hedges(n: int) -> float:
    """gamma(f / 2) / (sqrt(f / 2) gamma((f - 1) / 2)) with f = n - 1 degrees of freedom (Hedges 1981)."""
    if n < 3:
        return 1.0
    f = n - 1
    return float(np.exp(special.gammaln(f / 2) - special.gammaln((f - 1) / 2)) / np.sqrt(f / 2))
