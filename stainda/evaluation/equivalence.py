r"""Is a difference practically nothing? Probabilities of worse, practically equal and better.

A test of "no difference" cannot show that two strategies are alike. Here three probabilities are given instead: that
the first is worse, that both are practically equal, that it is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from stainda.errors import StaindaError


@dataclass(frozen=True)
class Equivalence:
    """Posterior probabilities, which add up to 1; ``nan`` where there is no error to judge by."""

    worse: float
    equal: float
    better: float


def posterior(mean: float, error: float, freedom: float, rope: float) -> Equivalence:
    """The Bayesian t test with a region of practical equivalence (Benavoli et al., JMLR 2017, section 3).

    Under the usual flat prior the true difference has Student's distribution about the observed one; with the error
    over patients and trainings (``crossed``) in the place of that over folds.

    Args:
        mean, error, freedom: of a :class:`~stainda.evaluation.crossed.Estimates`; ``nan`` where trainings are unknown.
        rope: half width of the region of practical equivalence, in the unit of the measure.

    Raises:
        StaindaError: ``rope`` is negative.
    """
    if rope < 0:
        raise StaindaError(f"the region of practical equivalence cannot have the width {rope}")
    if not (np.isfinite(error) and np.isfinite(mean)):
        return Equivalence(np.nan, np.nan, np.nan)
    scale = max(error, 1e-12)
    worse = float(special.stdtr(freedom, (-rope - mean) / scale))
    better = float(special.stdtr(freedom, (mean - rope) / scale))
    return Equivalence(worse, max(1 - worse - better, 0.0), better)
