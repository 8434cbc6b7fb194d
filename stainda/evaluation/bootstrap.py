r"""Bootstrap of patients, vectorised.

Patients are drawn with replacement, with everything that belongs to them; slides and pixels of one patient are never
treated as independent. A resample is a row of weights (how often each patient was drawn), so that all means of all
resamples are one matrix product: ``(W @ S) / (W @ defined)`` for weights W (resamples, patients) and scores S
(patients, columns). All columns share the weights, so differences between strategies stay paired.

Percentile intervals are the quantiles of the resampled values (Efron 1979), too narrow for few patients: 95 % of 6
patients covers about 88 %. Expanded ones are the same quantiles taken further out, at
:math:`\Phi(-\sqrt{n/(n-1)}\,t_{\alpha/2,n-1})`, which undoes that (Hesterberg, What Teachers Should Know About the
Bootstrap, Am. Stat. 2015). Neither contains the variation between trainings: intervals of means over patients and
trainings are those of ``crossed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from stainda.arrays import Array

FEW_PATIENTS = 6
"""Below this many patients no interval of a mean is given, but the range of the patients (``crossed``)."""


def resampling_weights(
    n: int, resamples: int, generator: np.random.Generator, strata: Sequence[Any] | None = None
) -> npt.NDArray[np.float64]:
    """How often each of n patients is drawn, float (resamples, n); every row sums to n.

    With ``strata`` (n,) patients are drawn within each stratum, whose size then stays what it is.
    """
    if strata is None:
        return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    names = np.asarray(strata)
    weights = np.zeros((resamples, n))
    for name in dict.fromkeys(names.tolist()):
        inside = np.flatnonzero(names == name)
        weights[:, inside] = resampling_weights(len(inside), resamples, generator)
    return weights


def weighted_means(scores: Array, weights: Array) -> npt.NDArray[np.float64]:
    """Means of the defined scores (n, k) under weights (r, n): float (r, k), ``nan`` where none was drawn."""
    defined = np.isfinite(scores)
    if defined.all():
        return (weights @ scores) / weights.sum(axis=1, keepdims=True)
    total, count = weights @ np.where(defined, scores, 0.0), weights @ defined.astype(float)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def expanded_interval(resampled: Array, n: int, level: float) -> tuple[Array, Array]:
    """Ends of the expanded percentile interval of resampled values (r, ...) of n patients, float (...)."""
    tail = float(special.ndtr(-np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, 1 - (1 - level) / 2)))
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high


def percentile_interval(resampled: Array, level: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Ends (k,) of the plain percentile interval of resampled values (r, k); what is ``nan`` is left out.

    Both ends are ``nan`` where a column has no value at all.
    """
    tail = (1 - level) / 2
    defined = np.isfinite(resampled).any(axis=0)
    ends = np.full((2, resampled.shape[1]), np.nan)
    ends[:, defined] = np.nanquantile(resampled[:, defined], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]
