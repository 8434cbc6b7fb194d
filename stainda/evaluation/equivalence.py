"""Is a difference practically nothing? The Bayesian signed-rank test with a region of equivalence.

A test of "no difference" cannot show that two strategies are alike. Here three probabilities are given instead: that
the first is worse, that both are practically equal, that it is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stainda.errors import StaindaError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Equivalence:
    """Posterior probabilities, which add up to 1; ``nan`` with fewer than two patients."""

    worse: float
    equal: float
    better: float
    n: int


def bayesian_signed_rank(
    differences: Array, rope: float, generator: np.random.Generator, samples: int = 4000, prior: float = 0.5
) -> Equivalence:
    """Bayesian Wilcoxon signed-rank test (Benavoli et al. 2014; Benavoli et al., JMLR 2017, section 4.2).

    The differences of patients are drawn from a distribution with a Dirichlet process prior, whose base measure puts
    its weight ``prior`` on a difference of 0. In each sample of the posterior the means of two random patients'
    differences (Walsh averages) fall below, into, or above ``[-rope, rope]`` with some probability; the largest of the
    three is that sample's verdict, and the share of verdicts is returned.

    Args:
        differences: float (n,), one per patient; ``nan`` are left out.
        rope: half width of the region of practical equivalence, in the unit of the measure.

    Raises:
        StaindaError: ``rope`` is negative.
    """
    if rope < 0:
        raise StaindaError(f"the region of practical equivalence cannot have the width {rope}")
    values = np.asarray(differences, float)
    values = values[np.isfinite(values)]
    n = len(values)
    if n < 2:
        return Equivalence(np.nan, np.nan, np.nan, n)
    values = np.append(0.0, values)
    walsh = (values[:, None] + values[None, :]) / 2
    weights = generator.dirichlet(np.append(prior, np.ones(n)), size=samples)
    slack = 1e-12 * max(1.0, float(np.abs(values).max()))
    below, above = (walsh < -rope - slack).astype(float), (walsh > rope + slack).astype(float)
    worse = np.einsum("si,ij,sj->s", weights, below, weights, optimize=True)
    better = np.einsum("si,ij,sj->s", weights, above, weights, optimize=True)
    shares = np.stack([worse, 1 - worse - better, better], axis=1)
    best = shares >= shares.max(axis=1, keepdims=True) - 1e-12
    verdicts = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return Equivalence(float(verdicts[0]), float(verdicts[1]), float(verdicts[2]), n)
