"""Displacement fields on a regular lattice: sampling, extending, smoothing, inverting, and the area change they cause.

A field is float32 of shape (2, h, w): ``field[0]`` is the displacement in x and ``field[1]`` in y, both in lattice
units, of the lattice point at column x and row y. It maps ``u`` to ``u + field(u)``.
"""

from __future__ import annotations

import numpy as np

from stainda.arrays import Array

CUBIC = 3


def coefficients(field: Array) -> Array:
    """Cubic spline coefficients of a field (2, h, w), to be handed to :func:`sample` any number of times."""
    from scipy import ndimage

    return np.stack([ndimage.spline_filter(part, order=CUBIC, mode="mirror", output=np.float64) for part in field])


def sample(spline: Array, xy: Array) -> Array:
    """Displacements (n, 2) at lattice coordinates ``xy`` (n, 2).

    Outside the lattice the displacement is that of the nearest lattice border point: a constant continuation, which
    keeps the map continuous and never folds it.
    """
    from scipy import ndimage

    _, height, width = spline.shape
    x, y = np.clip(xy[:, 0], 0, width - 1), np.clip(xy[:, 1], 0, height - 1)
    out = np.empty_like(xy, dtype=np.float64)
    for axis in (0, 1):
        out[:, axis] = ndimage.map_coordinates(spline[axis], (y, x), order=CUBIC, mode="mirror", prefilter=False)
    return out


def extend(field: Array, known: Array, softness: float = 16.0) -> Array:
    """Continue a field from where it is ``known`` (bool (h, w)) to the rest of its lattice.

    VALIS sets the displacement to zero outside its mask, so that it jumps by as much as 17 px at the mask's border
    (measured on rat_kidney) and tears every shape that lies across it. Here unknown points take the value of the
    nearest known one, blurred the more (standard deviation ``softness`` lattice units) the farther away they are.
    """
    from scipy import ndimage

    if not known.any():
        return np.zeros_like(field)
    if known.all():
        return field
    distance, (rows, columns) = ndimage.distance_transform_edt(~known, return_indices=True)
    nearest = field[:, rows, columns]
    blurred = np.stack([ndimage.gaussian_filter(part, softness, mode="nearest") for part in nearest])
    share = np.clip(distance / (2 * softness), 0, 1).astype(field.dtype)
    return nearest * (1 - share) + blurred * share


def smooth_and_thin(field: Array, spacing: int, sigma: float) -> Array:
    """Smooth with a Gaussian (``sigma`` lattice units) and keep every ``spacing``-th point; the result counts in the
    thinned lattice's units."""
    from scipy import ndimage

    smooth = np.stack([ndimage.gaussian_filter(part, sigma, mode="nearest") for part in field]) if sigma else field
    return (smooth[:, ::spacing, ::spacing] / spacing).astype(np.float32)


def invert(field: Array, iterations: int = 40, tolerance: float = 1e-3) -> Array:
    """The field ``g`` with ``u + g(u) + field(u + g(u)) = u``, by fixed-point iteration ``g <- -field(u + g)``.

    That converges where neighbours are displaced much alike (Chen et al., Med. Phys. 2008); points it leaves further
    than ``tolerance`` lattice units from their goal are sought by Newton's method with halved steps. Where the field
    folds there is no inverse, and the best found is kept, which the gate on folds catches.
    """
    _, height, width = field.shape
    spline = coefficients(field)
    rows, columns = np.mgrid[:height, :width]
    goal = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)
    inverse = goal.copy()
    moving = np.arange(len(goal))
    for _ in range(iterations):
        following = goal[moving] - sample(spline, inverse[moving])
        step = np.abs(following - inverse[moving]).max(axis=1)
        inverse[moving] = following
        moving = moving[step >= tolerance]
        if not len(moving):
            break
    left = np.flatnonzero(np.linalg.norm(inverse + sample(spline, inverse) - goal, axis=1) > tolerance)
    if len(left):
        inverse[left] = _newton(spline, goal[left], inverse[left], tolerance)
    return (inverse - goal).T.reshape(2, height, width).astype(np.float32)


def _newton(spline: Array, goal: Array, start: Array, tolerance: float, steps: int = 25) -> Array:
    """Points (n, 2) whose displaced place is ``goal``, from the better of ``start`` and ``goal``."""

    def missing(points: Array) -> Array:
        return points + sample(spline, points) - goal

    def distance(rest: Array) -> Array:
        return np.linalg.norm(rest, axis=1)

    better = distance(missing(start)) < distance(missing(goal))
    solution = np.where(better[:, None], start, goal)
    right, below = np.array([0.05, 0.0]), np.array([0.0, 0.05])
    for _ in range(steps):
        rest = missing(solution)
        length = distance(rest)
        if (length < tolerance).all():
            break
        across = (missing(solution + right) - missing(solution - right)) / 0.1
        down = (missing(solution + below) - missing(solution - below)) / 0.1
        area = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
        area = np.where(np.abs(area) < 0.05, np.copysign(0.05, area), area)
        step = (
            np.stack(
                [
                    down[:, 1] * rest[:, 0] - down[:, 0] * rest[:, 1],
                    across[:, 0] * rest[:, 1] - across[:, 1] * rest[:, 0],
                ],
                axis=1,
            )
            / area[:, None]
        )
        for _ in range(4):  # a step that leads away is halved
            worse = distance(missing(solution - step)) > length
            step[worse] *= 0.5
        step[distance(missing(solution - step)) > length] = 0
        solution = solution - step
    return solution


def jacobian(field: Array) -> Array:
    """Local area change of ``u -> u + field(u)``, float (h, w): 1 keeps the area, 0 or less is a fold."""
    dx_dy, dx_dx = np.gradient(field[0].astype(np.float64))
    dy_dy, dy_dx = np.gradient(field[1].astype(np.float64))
    return (1 + dx_dx) * (1 + dy_dy) - dx_dy * dy_dx


def as_linear(field: Array, xy: Array) -> Array:
    """Values (n, 2) of a field (2, h, w) at ``xy`` (n, 2), linear between its points and constant beyond them."""
    from scipy import ndimage

    _, height, width = field.shape
    x, y = np.clip(xy[:, 0], 0, width - 1), np.clip(xy[:, 1], 0, height - 1)
    return np.stack([ndimage.map_coordinates(part, (y, x), order=1, mode="nearest") for part in field], axis=1)
