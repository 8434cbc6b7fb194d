"""Transforms of ITK and elastix as functions of points (n, 2) in their physical space.

Both programs map from the fixed to the moving image. Formulas: the ITK Software Guide, and chapter 2.6 and 6 of the
elastix manual (S. Klein and M. Staring).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stainda.arrays import Array
from stainda.errors import RegistrationError
from stainda.registration.fields import as_linear

PointFunction = Callable[[Array], Array]
STRAIGHT = float("inf")  # the grain of a linear transform: the physical units over which a map may bend


def linear(matrix: Array, translation: Array, centre: Array) -> PointFunction:
    """``matrix (x - centre) + centre + translation``."""
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise RegistrationError("the matrix has no inverse")
    return lambda xy: (xy - centre) @ matrix.T + centre + translation


def linear_from(kind: str, parameters: Array, centre: Array) -> PointFunction | None:
    """The function of a linear ITK or elastix transform by its name; ``None`` if it is not linear.

    Raises:
        RegistrationError: the number of parameters is not that of a 2D transform of this kind.
    """
    counts = {"Identity": 0, "Translation": 2, "Euler": 3, "Rigid": 3, "Similarity": 4, "Affine": 6}
    names = {
        "IdentityTransform": "Identity", "TranslationTransform": "Translation", "EulerTransform": "Euler",
        "Euler2DTransform": "Euler", "Rigid2DTransform": "Rigid", "SimilarityTransform": "Similarity",
        "Similarity2DTransform": "Similarity", "AffineTransform": "Affine", "MatrixOffsetTransformBase": "Affine",
    }  # fmt: skip
    name = names.get(kind)
    if name is None:
        return None
    if len(parameters) != counts[name]:
        raise RegistrationError(f"{kind} has {len(parameters)} parameters, not the {counts[name]} of a flat image")
    if name == "Identity":
        return lambda xy: xy
    if name == "Translation":
        return linear(np.eye(2), parameters, np.zeros(2))
    if name == "Affine":
        return linear(parameters[:4].reshape(2, 2), parameters[4:], centre)
    scale, angle, shift = (
        (parameters[0], parameters[1], parameters[2:]) if name == "Similarity" else (1.0, parameters[0], parameters[1:])
    )
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return linear(turn, shift, centre)


def bspline(size: Sequence[int], origin: Array, spacing: Array, direction: Array, coefficients: Array) -> PointFunction:
    """``x + sum of cubic B-splines`` on a grid; no displacement beyond the grid's valid part, as in ITK.

    Args:
        size: grid points (columns, rows). coefficients: (2 · columns · rows), all of x first, x running fastest.
    """
    columns, rows = (int(side) for side in size)
    if columns < 4 or rows < 4 or len(coefficients) != 2 * columns * rows:
        raise RegistrationError(f"{len(coefficients)} coefficients do not fit a B-spline grid of {columns} x {rows}")
    grid = coefficients.reshape(2, rows, columns)
    back = np.linalg.inv(direction @ np.diag(spacing))

    def move(xy: Array) -> Array:
        at = (xy - origin) @ back.T
        inside = ((at >= 1) & (at < np.array([columns, rows]) - 2)).all(axis=1)
        first = np.clip(np.floor(at).astype(int) - 1, 0, np.array([columns, rows]) - 4)
        weights = [_cubic(at[:, axis, None] - (first[:, axis, None] + np.arange(4))) for axis in (0, 1)]
        out = np.zeros_like(xy)
        for row in range(4):
            for column in range(4):
                share = weights[1][:, row] * weights[0][:, column]
                out += (share * grid[:, first[:, 1] + row, first[:, 0] + column]).T
        return np.where(inside[:, None], xy + out, xy)

    return move


def _cubic(t: Array) -> Array:
    away = np.abs(t)
    near = 2 / 3 - away**2 + away**3 / 2
    far = np.clip(2 - away, 0, None) ** 3 / 6
    return np.where(away < 1, near, far)


def field(displacement: Array, origin: Array, spacing: Array, direction: Array) -> PointFunction:
    """``x + d(x)`` with ``displacement`` (2, h, w) in physical units, linear between its points; beyond them the
    displacement of the nearest holds (ITK has none there, which would tear shapes at the border)."""
    back = np.linalg.inv(direction @ np.diag(spacing))

    def move(xy: Array) -> Array:
        return xy + as_linear(displacement, (xy - origin) @ back.T)

    return move
