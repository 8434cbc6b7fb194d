"""A transform from landmark pairs: the thin-plate spline (F. L. Bookstein, IEEE TPAMI 11(6), 1989)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from scipy.interpolate import RBFInterpolator

from stainda.arrays import Array
from stainda.errors import RegistrationError
from stainda.registration.affine import apply_affine, fit_affine
from stainda.registration.transforms import Transform, from_pull

SIDE = 384  # lattice points along the longer side of the frame
MAX_LANDMARKS = 5000
LEFT_OUT = 50  # landmarks left out in turn, to say how far the spline is off between them


def from_landmarks(
    slide: str,
    frame: str,
    size: tuple[int, int],
    frame_size: tuple[int, int],
    source: Array,
    target: Array,
    *,
    smoothing: float = 0.0,
    names: Sequence[str] | None = None,
) -> Transform:
    """The smoothest map that takes every landmark of the section to its partner; three landmarks give an affine map.

    Args:
        source, target: float (n, 2), level-0 pixels of the section and of the frame, in the same order.
        smoothing: 0 goes through every landmark. More weighs the bending against the distances: the ``lambda`` of
            scipy's RBFInterpolator, in a frame whose longer side is 1; 1e-4 is little, 1 nearly affine.
        names: of the landmarks, for messages.

    Returns:
        ``about`` holds ``n_landmarks``, ``residual_px`` (median distance that is left) and ``left_out_px`` (median
        error at a landmark when it is not used), level-0 pixels.

    Raises:
        RegistrationError: fewer than three landmarks, all on one line, two at one place, or a map that folds between
            the landmarks.
    """
    names = [str(number + 1) for number in range(len(source))] if names is None else list(names)
    if not (np.isfinite(smoothing) and smoothing >= 0):
        raise RegistrationError(f"smoothing must be 0 or more, not {smoothing}")
    if len(source) > MAX_LANDMARKS:
        raise RegistrationError(f"{len(source)} landmarks; a thin-plate spline takes at most {MAX_LANDMARKS}")
    if len(source) < 3:
        raise RegistrationError(f"{len(source)} landmarks have a partner; at least three are needed")
    for points, which in ((source, "section"), (target, "frame")):
        _refuse_degenerate(points, names, which)
    matrix = fit_affine(source, target)
    about: dict[str, Any] = {"kind": "thin-plate spline", "n_landmarks": len(source), "smoothing": smoothing}
    if len(source) == 3:
        return Transform.affine(slide, size, frame, frame_size, matrix, about | {"kind": "affine of three landmarks"})
    scale = float(max(frame_size))
    pull = _spline(target, source, scale, smoothing)
    spacing = max(max(frame_size) / SIDE, 1.0)
    transform = from_pull(slide, frame, size, frame_size, pull, spacing, about=about)
    _refuse_folds(transform, target, names, smoothing)
    residual = np.linalg.norm(transform.to_frame(source) - target, axis=1)
    left_out = _left_out(source, target, scale, smoothing)
    return replace(transform, about=about | {"residual_px": float(np.median(residual)), "left_out_px": left_out})


def _spline(source: Array, target: Array, scale: float, smoothing: float) -> Callable[[Array], Array]:
    inner = RBFInterpolator(source / scale, target, smoothing=smoothing, kernel="thin_plate_spline", degree=1)
    return lambda xy: inner(xy / scale)


def _refuse_degenerate(points: Array, names: Sequence[str], which: str) -> None:
    span = float(np.ptp(points, axis=0).max())
    order = np.lexsort(points.T)
    gaps = np.linalg.norm(np.diff(points[order], axis=0), axis=1)
    near = np.flatnonzero(gaps <= max(1e-9, 1e-7 * span))
    if len(near):
        pairs = ", ".join(f"{names[order[i]]} and {names[order[i + 1]]}" for i in near[:5])
        raise RegistrationError(
            f"landmarks at one place in the {which}: {pairs}", remedy="Remove all but one of each place"
        )
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if spread[1] < 1e-3 * spread[0]:
        raise RegistrationError(
            f"the landmarks of the {which} lie on one line", remedy="Add landmarks on both sides of it"
        )


def _refuse_folds(transform: Transform, target: Array, names: Sequence[str], smoothing: float) -> None:
    """Refuse where the map turns over between the landmarks; beyond them nothing is known anyway."""
    rows, columns = np.nonzero(transform.folds())
    if not len(rows):
        return
    places = apply_affine(transform.post, np.stack([columns, rows], axis=1).astype(float))
    hull = shapely.convex_hull(shapely.multipoints(target))
    inside = places[shapely.contains_xy(hull, places)]
    if not len(inside):
        return
    nearest = np.argsort(np.linalg.norm(target - inside[len(inside) // 2], axis=1))[:3]
    raise RegistrationError(
        f"the thin-plate spline folds at {inside[len(inside) // 2].round().astype(int).tolist()} of the frame, near "
        f"the landmarks {', '.join(names[i] for i in nearest)}",
        remedy=f"Check that these are not swapped, or raise smoothing (now {smoothing:g})",
    )


def _left_out(source: Array, target: Array, scale: float, smoothing: float) -> float | None:
    """Median error (frame pixels) at landmarks that the spline did not use; ``None`` below five landmarks."""
    if len(source) < 5:
        return None
    chosen = np.unique(np.linspace(0, len(source) - 1, min(LEFT_OUT, len(source))).astype(int))
    section_scale = float(np.ptp(source, axis=0).max())
    errors = []
    for landmark in chosen:
        rest = np.arange(len(source)) != landmark
        guess = _spline(source[rest], target[rest], section_scale, smoothing)(source[landmark : landmark + 1])
        errors.append(float(np.linalg.norm(guess[0] - target[landmark])))
    return float(np.median(errors))
