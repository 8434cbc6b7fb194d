r"""Ripley's K, L and the pair correlation of points in a polygon with holes, of one kind or of two.

With :math:`\gamma(v) = |W \cap (W + v)|`, the area that the window shares with itself shifted by :math:`v`,

.. math:: \hat K_{12}(r) = \frac{|W|^2}{n_1 n_2} \sum_{i, j} \frac{1[\,\|x_i - y_j\| \le r\,]}{\gamma(y_j - x_i)}
   \qquad \hat g_{12}(r) = \frac{|W|^2}{n_1 n_2} \sum_{i, j} \frac{k_h(r - \|x_i - y_j\|)}{2 \pi r\, \gamma(y_j - x_i)}

(translation correction: J. Ohser, D. Stoyan 1981), :math:`L = \sqrt{K / \pi}`, :math:`k_h` Epanechnikov's kernel; of
one kind of points, pairs of a point with itself are left out and :math:`n_1 n_2` is :math:`n (n - 1)`. Under
complete spatial randomness K is :math:`\pi r^2`, L is r and g is 1. The correction is exact for any window, holes
included, up to its raster; it needs no boundary geometry per pair. Everything is in micrometres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from stainda.microenvironment.window import CountingWindow

Floats = npt.NDArray[np.float64]
MOST = 20_000
"""Points of a kind from which pairs are counted; of more, so many are drawn at random."""


@dataclass(frozen=True, eq=False)
class PairFunctions:
    """At the distances ``r`` (k,): ``k``, ``l`` and ``g`` (k,); ``nan`` where there are too few points.

    ``pairs`` is how many pairs they rest on.
    """

    r: Floats
    k: Floats
    l: Floats  # noqa: E741  (the function's name)
    g: Floats
    pairs: int


def pair_functions(
    first: Floats,
    second: Floats | None,
    window: CountingWindow,
    r: Floats,
    *,
    bandwidth: float | None = None,
    rng: np.random.Generator | None = None,
) -> PairFunctions:
    """K, L and g of points (n, 2) of one kind (``second`` is ``None``), or of two.

    Args:
        r: increasing distances from above 0.
        bandwidth: half width of the kernel; default 0.15 / sqrt(density of the second kind) (D. Stoyan, H. Stoyan
            1994), at least a quarter of the spacing of ``r``.
        rng: draws points where there are more than :data:`MOST`.
    """
    same = second is None
    one = _some(first, rng)
    two = one if second is None else _some(second, rng)
    n = len(one) * (len(one) - 1) if same else len(one) * len(two)
    nothing = np.full(len(r), np.nan)
    if n == 0 or window.area <= 0:
        return PairFunctions(r, nothing, nothing, nothing, 0)
    if bandwidth is None:
        bandwidth = max(0.15 / np.sqrt(len(two) / window.area), float(np.diff(r, prepend=0.0).min()) / 4)
    distance, shift = _pairs(one, two, float(r[-1]) + bandwidth, same=same)
    weight = 1 / np.maximum(window.covariance(shift), 1e-3 * window.area)
    scale = window.area**2 / n
    order = np.argsort(distance)
    summed = np.concatenate([[0.0], np.cumsum(weight[order])])
    k = scale * summed[np.searchsorted(distance[order], r, side="right")]
    g = scale * _smoothed(distance[order], weight[order], r, bandwidth) / (2 * np.pi * r)
    return PairFunctions(r, k, np.sqrt(k / np.pi), g, len(distance))


def _some(points: Floats, rng: np.random.Generator | None) -> Floats:
    if len(points) <= MOST:
        return points
    return points[(rng or np.random.default_rng(0)).choice(len(points), MOST, replace=False)]


def _pairs(one: Floats, two: Floats, reach: float, *, same: bool) -> tuple[Floats, Floats]:
    """Distances (n,) and shifts (n, 2) of all ordered pairs at most ``reach`` apart."""
    if same:
        near = cKDTree(one).query_pairs(reach, output_type="ndarray")
        shift = one[near[:, 1]] - one[near[:, 0]]
        shift = np.concatenate([shift, -shift])
    else:
        found = cKDTree(one).sparse_distance_matrix(cKDTree(two), reach, output_type="coo_matrix")
        shift = two[found.col] - one[found.row]
    return np.linalg.norm(shift, axis=1), shift


def _smoothed(distance: Floats, weight: Floats, r: Floats, bandwidth: float) -> Floats:
    """Sum of weights times Epanechnikov's kernel about each ``r``; reflected at 0, below which nothing can lie."""
    found = np.zeros(len(r))
    for index, at in enumerate(r):
        low, high = np.searchsorted(distance, [at - bandwidth, at + bandwidth])
        u = (distance[low:high] - at) / bandwidth
        value = float((weight[low:high] * 0.75 * (1 - u**2)).sum()) / bandwidth
        if at < bandwidth:
            high = np.searchsorted(distance, bandwidth - at)
            u = (distance[:high] + at) / bandwidth
            value += float((weight[:high] * 0.75 * (1 - u**2)).sum()) / bandwidth
        found[index] = value
    return found
