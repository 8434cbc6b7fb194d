"""Displacement fields on a regular lattice: sampling, extending, smoothing, inverting, and the area change they cause.

A field is float32 of shape (2, h, w): ``field[0]`` is the displacement in x and ``field[1]`` in y, both in lattice
units, of the lattice point at column x and row y. It maps ``u`` to ``u + field(u)``.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

CUBIC = 3


def coefficients(field: np.ndarray) -> np.ndarray:
    """Cubic spline coefficients of a field (2, h, w), to be handed to :func:`sample` any number of times."""
    return np.stack([ndimage.spline_filter(part, order=CUBIC, mode="nearest", output=np.float64) for part in field])


def sample(spline: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Displacements (n, 2) at lattice coordinates ``xy`` (n, 2).

    Outside the lattice the displacement is that of the nearest lattice border point: a constant continuation, which
    keeps the map continuous and never folds it.
    """
    _, height, width = spline.shape
    x, y = np.clip(xy[:, 0], 0, width - 1), np.clip(xy[:, 1], 0, height - 1)
    out = np.empty_like(xy, dtype=np.float64)
    for axis in (0, 1):
        out[:, axis] = ndimage.map_coordinates(spline[axis], (y, x), order=CUBIC, mode="nearest", prefilter=False)
    return out


def extend(field: np.ndarray, known: np.ndarray, softness: float = 16.0) -> np.ndarray:
    """Continue a field from where it is ``known`` (bool (h, w)) to the rest of its lattice.

    VALIS sets the displacement to zero outside its mask, so that it jumps by as much as 17 px at the mask's border
    (measured on rat_kidney) and tears every shape that lies across it. Here unknown points take the value of the
    nearest known one, blurred the more (standard deviation ``softness`` lattice units) the farther away they are.
    """
    if not known.any():
        return np.zeros_like(field)
    if known.all():
        return field
    distance, (rows, columns) = ndimage.distance_transform_edt(~known, return_indices=True)
    nearest = field[:, rows, columns]
    blurred = np.stack([ndimage.gaussian_filter(part, softness, mode="nearest") for part in nearest])
    share = np.clip(distance / (2 * softness), 0, 1).astype(field.dtype)
    return nearest * (1 - share) + blurred * share


def smooth_and_thin(field: np.ndarray, spacing: int, sigma: float) -> np.ndarray:
    """Smooth with a Gaussian (``sigma`` lattice units) and keep every ``spacing``-th point; the result counts in the
    thinned lattice's units."""
    smooth = np.stack([ndimage.gaussian_filter(part, sigma, mode="nearest") for part in field]) if sigma else field
    return (smooth[:, ::spacing, ::spacing] / spacing).astype(np.float32)


def invert(field: np.ndarray, iterations: int = 40, tolerance: float = 1e-3) -> np.ndarray:
    """The field ``g`` with ``u + g(u) + field(u + g(u)) = u``, by fixed-point iteration ``g <- -field(u + g)``.

    Converges where the field does not fold (Chen et al., Med. Phys. 2008); elsewhere it stays at its last iterate,
    which the gate on folds catches. Stops when no point moves by more than ``tolerance`` lattice units.
    """
    _, height, width = field.shape
    spline = coefficients(field)
    rows, columns = np.mgrid[:height, :width]
    grid = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)
    found = np.zeros_like(grid)
    for _ in range(iterations):
        following = -sample(spline, grid + found)
        step = np.abs(following - found).max()
        found = following
        if step < tolerance:
            break
    return found.T.reshape(2, height, width).astype(np.float32)


def jacobian(field: np.ndarray) -> np.ndarray:
    """Local area change of ``u -> u + field(u)``, float (h, w): 1 keeps the area, 0 or less is a fold."""
    dx_dy, dx_dx = np.gradient(field[0].astype(np.float64))
    dy_dy, dy_dx = np.gradient(field[1].astype(np.float64))
    return (1 + dx_dx) * (1 + dy_dy) - dx_dy * dy_dx
