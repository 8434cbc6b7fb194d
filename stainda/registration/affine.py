"""Affine maps of points in the plane, as matrices (3, 3)."""

from __future__ import annotations

import numpy as np

from stainda.arrays import Array
from stainda.errors import RegistrationError


def fit_affine(source: Array, target: Array, weights: Array | None = None) -> Array:
    """The affine matrix (3, 3) that takes ``source`` (n, 2) nearest to ``target`` in the least-squares sense.

    Args:
        weights: of the squares, (n,); all 1 by default.

    Raises:
        RegistrationError: fewer than three points, or all on one line.
    """
    centre, span = source.mean(axis=0), np.ptp(source, axis=0).max() if len(source) else 0.0
    terms = np.column_stack([(source - centre) / (span or 1.0), np.ones(len(source))])
    if len(source) < 3 or np.linalg.svd(terms, compute_uv=False)[-1] < 1e-6 * len(source) ** 0.5:
        raise RegistrationError("an affine map needs three points that do not lie on one line")
    root = np.ones((len(source), 1)) if weights is None else np.sqrt(weights)[:, None]
    solution, *_ = np.linalg.lstsq(terms * root, target * root, rcond=None)
    matrix = np.eye(3)
    matrix[:2, :2] = solution[:2].T / (span or 1.0)
    matrix[:2, 2] = solution[2] - matrix[:2, :2] @ centre
    return matrix


def apply_affine(matrix: Array, xy: Array) -> Array:
    """``matrix`` (3, 3) applied to points (n, 2)."""
    return xy @ matrix[:2, :2].T + matrix[:2, 2]
