"""Places of objects that a map shows by its peaks: points of a heat map, and discs of one size in a map of cells."""

from __future__ import annotations

import numpy as np

from stainda.arrays import Array

DISCS_APART = 0.75
"""Diameters that two discs of one class are apart, at least: of nearer ones the less probable is dropped."""

POINTS_APART = 1.5
"""Standard deviations that two points of one class are apart, at least: of nearer ones the lower is dropped."""

_BAND = 2048


def disc_peaks(shares: Array, diameter: float, threshold: float) -> tuple[Array, Array]:
    """Where discs of one size lie best.

    A disc is placed where the mean probability over it is a local maximum, if the mean over its inner half (of half the
    diameter) reaches the threshold. The best come first; a disc nearer than :data:`DISCS_APART` diameters to a better
    one is dropped (non-maximum suppression). A plateau of equal means counts as one maximum at its middle.

    Args:
        shares: probability of one class, float ``(h, w)``.
        diameter: of the discs, pixels of the map.

    Returns:
        Centres x, y, float ``(n, 2)``, in pixels from the corner of the map, and mean probabilities ``(n,)``.
    """
    from scipy import ndimage

    shares = np.asarray(shares, np.float32)
    disc = _disc(diameter / 2)
    mean = _mean_over(shares, disc)
    inner = _mean_over(shares, _disc(diameter / 4))
    top = (mean >= ndimage.maximum_filter(mean, footprint=disc) - 1e-6) & (inner >= threshold) & (mean > 1e-6)
    return _best(*_middles(top, mean), DISCS_APART * diameter)


def heat_peaks(heat: Array, sigma: float, threshold: float) -> tuple[Array, Array]:
    """Local maxima of a heat map that reach a threshold, the highest first.

    The map is smoothed by half of ``sigma`` to find where maxima lie; how high they are is read from the map as it is,
    within a pixel. It is looked at in bands of rows that overlap, so that where a band ends does not matter.

    Args:
        heat: nearness to a point of one class, float ``(h, w)``; it may lie on disk.
        sigma: standard deviation of the discs about points, pixels of the map.

    Returns:
        x, y of the peaks, float ``(n, 2)``, in pixels from the corner of the map, and their heights ``(n,)``.
    """
    margin = int(np.ceil(4 * sigma)) + 4
    places, values = [], []
    for top in range(0, heat.shape[0], _BAND):
        first = max(0, top - margin)
        part = np.asarray(heat[first : top + _BAND + margin], np.float32)
        centres, height = _peaks(part, sigma, threshold)
        centres[:, 1] += first
        own = (centres[:, 1] >= top) & (centres[:, 1] < top + _BAND)
        places.append(centres[own])
        values.append(height[own])
    return _best(np.concatenate(places), np.concatenate(values), POINTS_APART * sigma)


def _peaks(heat: Array, sigma: float, threshold: float) -> tuple[Array, Array]:
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(heat, sigma / 2)
    reach = 2 * max(1, round(sigma / 2)) + 1
    top = (smooth >= ndimage.maximum_filter(smooth, reach)) & (smooth > 1e-3)
    centres, height = _middles(top, ndimage.maximum_filter(heat, 3))
    return centres[height >= threshold], height[height >= threshold]


def _middles(top: Array, values: Array) -> tuple[Array, Array]:
    """Middles x, y ``(n, 2)`` of the connected parts of a mask, pixels from the corner, and the largest value in
    each."""
    from scipy import ndimage

    labels, count = ndimage.label(top, structure=np.ones((3, 3)))
    if not count:
        return np.zeros((0, 2)), np.zeros(0)
    numbers = np.arange(1, count + 1)
    centres = np.asarray(ndimage.center_of_mass(top, labels, numbers), float)[:, ::-1] + 0.5
    return centres, np.asarray(ndimage.maximum(values, labels, numbers), float)


def _best(centres: Array, worth: Array, apart: float) -> tuple[Array, Array]:
    """Places ``(n, 2)`` and their worth ``(n,)``, the best first, without those nearer than ``apart`` to a better one
    that is kept."""
    from scipy.spatial import cKDTree

    if not len(centres):
        return centres, worth
    near = cKDTree(centres)
    dropped, kept = np.zeros(len(centres), bool), []
    for place in np.lexsort((centres[:, 0], centres[:, 1], -worth)).tolist():
        if not dropped[place]:
            kept.append(place)
            dropped[near.query_ball_point(centres[place], apart * (1 - 1e-6))] = True
    return centres[kept], worth[kept]


def _mean_over(shares: Array, disc: Array) -> Array:
    from scipy.signal import oaconvolve

    mean = oaconvolve(shares, (disc / disc.sum()).astype(np.float32), mode="same")
    return np.clip(mean, 0.0, 1.0)


def _disc(radius: float) -> Array:
    """Pixels whose centres lie within ``radius`` of the middle one's, bool, of odd size."""
    reach = max(0, int(np.floor(radius)))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return x**2 + y**2 <= max(radius, 0.5) ** 2
