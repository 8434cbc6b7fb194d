"""Many comparisons at once, and ranks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stainda.arrays import Array


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
