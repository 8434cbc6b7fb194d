"""Global envelopes: a curve against those of simulations under a null hypothesis.

Curves are ordered by extreme rank length (M. Myllymäki et al., JRSS B 79, 2017): each value gets its rank among all
curves from either side, and curves are compared by their sorted ranks. The test has its level whatever the curves are,
as long as the observed one is one among equals under the null hypothesis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Envelope:
    """Observed curve (k,), pointwise ``low``, ``high`` and ``middle`` of the simulated ones, and the global p."""

    observed: Floats
    low: Floats
    high: Floats
    middle: Floats
    p: float
    simulations: int


def envelope(observed: Floats, simulated: Floats, level: float = 0.95) -> Envelope:
    """Envelope of simulated curves (s, k), and the p value of the observed one (k,) by extreme rank length.

    Values that are not defined in some curve are left out of the test.
    """
    simulated = np.atleast_2d(simulated)
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low, middle, high = np.quantile(simulated, [tail, 0.5, 1 - tail], axis=0)
    used = np.isfinite(observed) & np.isfinite(simulated).all(axis=0)
    p = rank_p(np.vstack([observed, simulated])[:, used]) if used.any() and len(simulated) else float("nan")
    return Envelope(observed, low, high, middle, p, len(simulated))


def rank_p(curves: Floats) -> float:
    """p of the first of the curves (s + 1, k) by extreme rank length; of ties, the observed one counts as extreme."""
    below = np.column_stack([_ranks(column) for column in curves.T])
    ranks = np.sort(np.minimum(below, len(curves) + 1 - below), axis=1)
    order = np.lexsort(ranks.T[::-1])
    first = ranks[order]
    position = int(np.flatnonzero((first == ranks[0]).all(axis=1)).max()) + 1
    return position / len(curves)


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, the mean of them where values are equal."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2
