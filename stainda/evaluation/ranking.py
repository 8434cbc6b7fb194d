r"""Ranking several strategies at once, and sizes of effects.

Patients rank the strategies by their mean over trainings. Which of them differ is asked of every pair by the t test
over patients and trainings (``crossed``), with Holm's correction over all pairs. Friedman's test with Nemenyi's
critical difference, the usual companion of mean ranks (Demšar, JMLR 2006), takes the trainings at hand for the recipe:
with three trainings that differ it called strategies different that do not in up to half of simulated studies.

All pairs are many comparisons: this is weaker than the comparison with one baseline; use it for the question "which are
the same?", not for "is this better than the baseline?".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from stainda.arrays import Array
from stainda.config import EvaluationConfig
from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.comparison import holm, mean_ranks
from stainda.evaluation.crossed import difference


@dataclass(frozen=True)
class Ranking:
    """Mean ranks (1 is best) of k strategies over n patients.

    Attributes:
        ranks: float (k,); ``nan`` with fewer than two patients or strategies.
        pairwise: p of every pair after Holm's correction over all pairs, float (k, k); ``nan`` where nothing is tested.
        n: patients with a score of every strategy.
        level: of the tests.
        note: what the numbers forbid to say.
    """

    ranks: npt.NDArray[np.float64]
    pairwise: npt.NDArray[np.float64]
    n: int
    level: float
    note: str

    @property
    def tested(self) -> bool:
        """Whether the pairs could be tested."""
        return len(self.ranks) > 1 and bool(np.isfinite(self.pairwise).all())

    def groups(self) -> list[list[int]]:
        """Largest runs by rank of which no pair was shown to differ; none where nothing is tested."""
        if not self.tested:
            return []
        order = [int(index) for index in np.argsort(self.ranks, kind="stable")]
        result: list[list[int]] = []
        for start in range(len(order)):
            run: list[int] = []
            for index in order[start:]:
                if any(self.pairwise[index, other] <= 1 - self.level for other in run):
                    break
                run.append(index)
            if len(run) > 1 and not any(set(run) <= set(other) for other in result):
                result.append(run)
        return result


def rank_strategies(runs: Sequence[Array], sign: float, settings: EvaluationConfig) -> Ranking:
    """Mean ranks over patients, and which pairs of strategies were shown to differ.

    Args:
        runs: per strategy float (trainings, patients); patients lacking a score of any are left out, and reported.
        sign: 1 where higher is better, -1 where lower is.
    """
    k = len(runs)
    defined = np.all([np.isfinite(run).all(axis=0) for run in runs], axis=0) if k else np.zeros(0, bool)
    n, left_out = int(defined.sum()), int((~defined).sum())
    notes = [f"{left_out} patients without a score of every strategy are left out"] if left_out else []
    pairwise = np.full((k, k), np.nan)
    if n < 2 or k < 2:
        why = "one patient: no ranking can be tested" if n == 1 else "nothing to rank"
        return Ranking(np.full(k, np.nan), pairwise, n, settings.level, "; ".join([why, *notes]))
    kept = [sign * run[:, defined] for run in runs]
    ranks = mean_ranks(-np.stack([scores.mean(axis=0) for scores in kept])).mean(axis=1)
    trainings = min(len(scores) for scores in kept)
    if n < FEW_PATIENTS or trainings < 2:
        few = f"{n} patients" if n < FEW_PATIENTS else "one training each"
        return Ranking(ranks, pairwise, n, settings.level, "; ".join([f"{few}: nothing is tested", *notes]))
    first, second = np.triu_indices(k, 1)
    p = [difference(kept[a][..., None], kept[b][..., None], settings).p[0] for a, b in zip(first, second, strict=True)]
    pairwise[first, second] = pairwise[second, first] = holm(np.array(p))
    np.fill_diagonal(pairwise, 1.0)
    return Ranking(ranks, pairwise, n, settings.level, "; ".join(notes))


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
