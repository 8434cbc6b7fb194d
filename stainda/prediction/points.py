"""Points of a heat map: its peaks."""

from __future__ import annotations

import numpy as np

from stainda.arrays import Array

APART = 1.5
"""Standard deviations that two points of one class are apart, at least: of nearer ones the lower is dropped."""

_BAND = 2048


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
    from scipy.spatial import cKDTree

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
    centres, height = np.concatenate(places), np.concatenate(values)
    order = np.lexsort((centres[:, 0], centres[:, 1], -height))
    dropped, kept = np.zeros(len(order), bool), []
    near = cKDTree(centres) if len(centres) else None
    for place in order.tolist():
        if near is not None and not dropped[place]:
            kept.append(place)
            dropped[near.query_ball_point(centres[place], APART * sigma)] = True
    return centres[kept], height[kept]


def _peaks(heat: Array, sigma: float, threshold: float) -> tuple[Array, Array]:
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(heat, sigma / 2)
    reach = 2 * max(1, round(sigma / 2)) + 1
    top = (smooth >= ndimage.maximum_filter(smooth, reach)) & (smooth > 1e-3)
    labels, count = ndimage.label(top, structure=np.ones((3, 3)))
    if not count:
        return np.zeros((0, 2)), np.zeros(0)
    numbers = np.arange(1, count + 1)
    height = np.asarray(ndimage.maximum(ndimage.maximum_filter(heat, 3), labels, numbers), float)
    centres = np.asarray(ndimage.center_of_mass(top, labels, numbers), float)[:, ::-1] + 0.5
    return centres[height >= threshold], height[height >= threshold]
