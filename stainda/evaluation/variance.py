"""Where scores vary: between patients, between domains, between trainings with another seed; and how many patients it
would take to see a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, special

from stainda.arrays import Array
from stainda.evaluation.scores import patient_scores

FACTORS = ("patient", "domain", "seed")
VARIANCE_COLUMNS = ["strategy", "measure", "component", "variance", "share", "levels", "n", "note"]

_MOST_SCORES = 1200
"""Scores of which all pairs are compared; of more, a fixed random choice."""


def variance_components(
    values: Array, factors: Sequence[Array], generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Variance of each factor and of what is left, from pairs of scores.

    In the model ``y = mean + a_factor1 + a_factor2 + … + rest`` with independent effects, half the expected squared
    difference of two scores is the sum of the variances of the factors in which they differ, plus that of the rest.
    The variances are the non-negative least-squares solution over all pairs: the ANOVA estimate where the design is
    balanced, and unbiased (before it is cut at 0) where cells are missing.

    Args:
        values: float (n,), finite.
        factors: labels (n,) each.

    Returns:
        float (len(factors) + 1,), the last one of the rest. A factor of one level, or of which nothing could be
        distinguished from another, gets ``nan``.
    """
    values = np.asarray(values, float)
    codes = [np.unique(np.asarray(factor).astype(str), return_inverse=True)[1] for factor in factors]
    if len(values) > _MOST_SCORES:
        kept = np.sort(generator.permutation(len(values))[:_MOST_SCORES])
        values, codes = values[kept], [code[kept] for code in codes]
    first, second = np.triu_indices(len(values), 1)
    if not len(first):
        return np.full(len(codes) + 1, np.nan)
    half = 0.5 * (values[first] - values[second]) ** 2
    differs = np.stack([code[first] != code[second] for code in codes] + [np.ones(len(first), bool)], 1)
    patterns, place, count = np.unique(differs, axis=0, return_inverse=True, return_counts=True)
    means = np.bincount(place.ravel(), half) / count
    usable = np.append(patterns[:, :-1].any(axis=0), True)
    design = patterns[:, usable].astype(float)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return np.full(len(codes) + 1, np.nan)
    weight = np.sqrt(count)
    components = np.full(len(codes) + 1, np.nan)
    components[usable], _ = optimize.nnls(design * weight[:, None], means * weight)
    return components


def variance_table(records: pd.DataFrame, measure: str, generator: np.random.Generator) -> pd.DataFrame:
    """Variance of each strategy's test scores, split into patient, domain, seed, and the rest.

    Args:
        records: rows of ONE checkpoint per strategy and seed (see ``selection.chosen_records``).

    Returns:
        :data:`VARIANCE_COLUMNS`; ``rest`` holds what neither explains: their interactions, mostly.
    """
    rows = records[(records["measure"] == measure) & (records["split"] == "test")]
    scores = patient_scores(rows, ["strategy", "seed", "domain", "class"])
    scores = scores[np.isfinite(scores["value"])]
    scores = scores.groupby(["strategy", *FACTORS], sort=False)["value"].mean().reset_index()
    table: list[dict[str, Any]] = []
    for strategy, of_strategy in scores.groupby("strategy", sort=False):
        components = variance_components(
            of_strategy["value"].to_numpy(), [of_strategy[factor].to_numpy() for factor in FACTORS], generator
        )
        total = float(np.nansum(components))
        for name, value in zip((*FACTORS, "rest"), components, strict=True):
            levels = int(of_strategy[name].nunique()) if name in FACTORS else len(of_strategy)
            note = "one level: not estimable" if levels < 2 else "not distinguishable here" if np.isnan(value) else ""
            share = value / total if total > 0 else np.nan
            table.append(
                {
                    "strategy": strategy, "measure": measure, "component": name, "variance": value, "share": share,
                    "levels": levels, "n": len(of_strategy), "note": note,
                }
            )  # fmt: skip
    return pd.DataFrame(table, columns=VARIANCE_COLUMNS)


def patients_needed(differences: Array, power: float = 0.8, level: float = 0.95) -> float:
    """Patients that a paired comparison needs to find a difference such as the observed one, for these trainings.

    For a two-sided paired t test, if the true mean and spread of the differences were those observed. A planning
    figure: it says nothing of the study at hand (its p value already says it), from few patients it is itself very
    uncertain, and it leaves out that other trainings would differ: more patients do not make up for few trainings.

    Returns:
        A whole number, at least 2; infinite where the mean difference is 0; ``nan`` with fewer than two patients or
        where all differ alike.
    """
    from statsmodels.stats.power import TTestPower

    values = np.asarray(differences, float)
    values = values[np.isfinite(values)]
    if len(values) < 2 or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return float("nan")
    effect = abs(float(values.mean())) / float(values.std(ddof=1))
    if effect < 1e-6:
        return float("inf")
    solver = TTestPower()

    def reached(n: float) -> float:
        value = float(solver.power(effect, n, 1 - level))
        return _power_of_a_large_effect(effect, n, 1 - level) if np.isnan(value) else value

    if effect > 50 or reached(2) >= power:
        return 2.0
    high = 4.0
    while reached(high) < power:
        high *= 2
    return float(math.ceil(optimize.brentq(lambda n: reached(n) - power, 2, high)))


def _power_of_a_large_effect(effect: float, n: float, alpha: float) -> float:
    """Power of the two-sided t test as a mean over quantiles of the standard deviation.

    scipy's noncentral t is ``nan`` for few degrees of freedom and large effects (n = 2, effect 8).
    """
    freedom = n - 1
    limit = special.stdtrit(freedom, 1 - alpha / 2)
    spread = np.sqrt(special.chdtri(freedom, (np.arange(4000) + 0.5) / 4000) / freedom)
    shift = effect * math.sqrt(n)
    return float(np.mean(special.ndtr(shift - limit * spread) + special.ndtr(-shift - limit * spread)))
