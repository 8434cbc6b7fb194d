"""Comparison of two sections that are placed in one frame: how far each part of one still lies from the same structures
of the other.

The view is cut into patches. In each the shift is sought that makes gradient directions (``similarity.directions``)
agree best, by Gauss-Newton steps on their squared difference (Lucas and Kanade 1981; gradients of both images:
Benhimane and Malis, IROS 2004), to fractions of a pixel, as small errors are what adds up in a long block. An affine
map of the whole is fitted to the patches first, robustly, and shifts are measured from there. Every fourth patch
takes no part in any fit, so that it can judge what the others lead to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.registration.affine import apply_affine
from stainda.registration.similarity import directions

PATCHES = 12  # along the longer side of the view: some 43 view pixels wide, a few tubules
HELD = 4  # one patch of so many is held back
STEPS = ((3.0, 4), (1.5, 3))  # standard deviation of the gradient filter in view pixels, and how many steps with it
FIRST = (6.0, 4)  # before these, where they alone find nothing sure: sections that lie 8 view pixels apart, as after a
# wrong step of a block, are beyond the reach of 3.0; where little is in common it loses what 3.0 finds
SURE = 20.0  # standard deviations: true neighbours have 23 to 70, places that are wrong by 8 view pixels 7 to 12
SETTLED, UNSETTLED = 0.03, 0.5  # view pixels: steps below the first end a scale; above the second nothing was found
MOST_GAIN = 2.0  # by which steps are lengthened for what two sections do not share
REACH = 6.0  # view pixels: a patch that seems to lie farther off shows something else
LEAST = 0.3  # of a patch must be compared
LEAST_PATCHES = 12  # fewer fix no affine map with parts held back
TURNS = 12  # directions of the shifts that give the level of chance
SHIFT = 0.09  # of the view's longer side: how far they lead


@dataclass(frozen=True, eq=False)
class PlacedSection:
    """A section as it lies on the view of the reference: density float32 (h, w), compared bool (h, w)."""

    slide: str
    density: Array
    compared: Array
    _directions: dict[float, Array] = field(default_factory=dict)

    def directions(self, scale: float) -> Array:
        """Gradient directions float32 (2, h, w) and where they can be compared, kept after the first call."""
        if scale not in self._directions:
            self._directions[scale] = directions(self.density, self.compared, scale)
        return self._directions[scale]


@dataclass(frozen=True, eq=False)
class PairEvidence:
    """What the direct comparison of two sections says.

    Attributes:
        moving, fixed: names. At ``u + shift`` the first shows what the second shows at ``u``.
        points, shifts: float (k, 2), view pixels, of the patches.
        weights: float (k, 2, 2), the inverse of each shift's covariance, but for a common factor.
        held: bool (k,), patches that take part in no fit.
        significance: of the agreement when the fitted affine map is applied, standard deviations above chance.
    """

    moving: str
    fixed: str
    points: Array
    shifts: Array
    weights: Array
    held: Array
    significance: float


def compare_pair(moving: PlacedSection, fixed: PlacedSection) -> PairEvidence | None:
    """Compare two placed sections; ``None`` where they share too little, or no place is better than those around it."""
    near = _compared(moving, fixed, STEPS)
    if near is not None and near.significance >= SURE:
        return near
    far = _compared(moving, fixed, (FIRST, *STEPS))
    either = [pair for pair in (near, far) if pair is not None]
    return max(either, key=lambda pair: pair.significance, default=None)


def _compared(
    moving: PlacedSection, fixed: PlacedSection, coarse_to_fine: Sequence[tuple[float, int]]
) -> PairEvidence | None:
    shape = fixed.density.shape
    numbers, held_numbers = _patches(shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    matrix, step = np.eye(3), np.eye(3)
    for scale, steps in coarse_to_fine:
        target, source = fixed.directions(scale), moving.directions(scale)
        for _ in range(steps):
            matrix = matrix @ step
            where = [matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] for i in (1, 0)]
            brought = np.stack([ndimage.map_coordinates(part, where, order=1, mode="nearest") for part in source])
            both = fixed.compared & (ndimage.map_coordinates(moving.compared.astype(np.uint8), where, order=0) > 0)
            patches = _Patches.of(target, brought, both, numbers)
            seen = patches.usable & ~held_numbers[patches.number]
            if seen.sum() < LEAST_PATCHES:
                return None
            step = _affine(patches, seen)
            moved = apply_affine(step, patches.points[seen]) - patches.points[seen]
            size = float(np.sqrt((moved**2).sum(axis=1).mean()))
            if size < SETTLED:
                break
        if size > UNSETTLED:
            return None
    kept = patches.usable & (np.hypot(*patches.shifts.T) < REACH)
    points = patches.points[kept]
    shifts = apply_affine(matrix, points + patches.shifts[kept]) - points
    return PairEvidence(
        moving.slide, fixed.slide, points, shifts, patches.weights[kept], held_numbers[patches.number[kept]],
        _significance(target, brought, both),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Patches:
    """Shifts of the patches of one step: number (k,), points, shifts (k, 2), weights (k, 2, 2), usable (k,)."""

    number: Array
    points: Array
    shifts: Array
    weights: Array
    usable: Array
    gain: float

    @classmethod
    def of(cls, target: Array, brought: Array, both: Array, numbers: Array) -> _Patches:
        target_gradient, brought_gradient = (
            np.stack(np.gradient(part, axis=(2, 1))) * both for part in (target, brought)
        )
        right, down = (target_gradient + brought_gradient) / 2
        # What the two do not share lengthens the gradients and shortens the shifts; the common share makes up for it
        shared = float((target_gradient * brought_gradient).sum()) / max(
            float((target_gradient**2).sum() + (brought_gradient**2).sum()) / 2, 1e-9
        )
        gain = float(np.clip((1 + shared) / (2 * max(shared, 1e-9)), 1, MOST_GAIN))
        rest = (target - brought) * both
        products = {
            "xx": (right * right).sum(0) * both, "xy": (right * down).sum(0) * both, "yy": (down * down).sum(0) * both,
            "bx": (right * rest).sum(0), "by": (down * rest).sum(0), "error": (rest * rest).sum(0),
        }  # fmt: skip
        flat, count = numbers.ravel(), int(numbers.max()) + 1
        sums = {name: np.bincount(flat, values.ravel(), minlength=count) for name, values in products.items()}
        area, size = np.bincount(flat, both.ravel(), minlength=count), np.bincount(flat, minlength=count)
        y, x = np.mgrid[: both.shape[0], : both.shape[1]]
        points = np.stack(
            [np.bincount(flat, (part * both).ravel(), minlength=count) / np.maximum(area, 1) for part in (x, y)], 1
        )
        normal = np.stack([np.stack([sums["xx"], sums["xy"]], 1), np.stack([sums["xy"], sums["yy"]], 1)], 1)
        usable = (area > LEAST * size) & (np.linalg.det(normal) > 1e-9)
        solvable = np.where(usable[:, None, None], normal, np.eye(2))
        shifts = np.linalg.solve(solvable, np.stack([sums["bx"], sums["by"]], 1)[..., None])[..., 0]
        noise = sums["error"].sum() / max(float(area.sum()), 1.0)
        return cls(np.arange(count), points, shifts, normal / max(noise, 1e-9), usable, gain)


def _affine(patches: _Patches, seen: Array) -> Array:
    """The affine map (3, 3) that the shifts of the patches lead to, by reweighted least squares (Cauchy)."""
    points, shifts = patches.points[seen], np.clip(patches.gain * patches.shifts[seen], -REACH, REACH)
    weights, centre = patches.weights[seen], patches.points[seen].mean(axis=0)
    terms = np.column_stack([np.ones(len(points)), (points - centre) / 100.0])
    factor = np.linalg.cholesky(weights + 1e-9 * np.eye(2))
    rows = np.einsum("kba,kc->kabc", factor, terms).transpose(0, 1, 3, 2).reshape(2 * len(points), 6)
    wanted = np.einsum("kba,kb->ka", factor, shifts)
    share = np.ones(len(points))
    for _ in range(6):
        root = np.repeat(np.sqrt(share), 2)
        solution, *_ = np.linalg.lstsq(rows * root[:, None], wanted.ravel() * root, rcond=None)
        rest = np.linalg.norm((rows @ solution).reshape(-1, 2) - wanted, axis=1)
        share = 1 / (1 + (rest / max(2.0 * float(np.median(rest)), 1e-9)) ** 2)
    step = np.eye(3)
    parts = solution.reshape(3, 2)
    step[:2, :2] += parts[1:].T / 100.0
    step[:2, 2] = parts[0] - parts[1:].T @ centre / 100.0
    return step


def _patches(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The number of each pixel's patch, int (h, w), and by number whether it is held back."""
    side = max(shape) / PATCHES
    row, column = (np.arange(length) / side for length in shape)
    rows, columns = row.astype(int)[:, None], column.astype(int)[None]
    across = int(columns.max()) + 1
    numbers = rows * across + columns
    r, c = np.divmod(np.arange(int(numbers.max()) + 1), across)
    return numbers, (2 * r + c + r // 2) % HELD == 0


def _significance(first: Array, second: Array, where: Array) -> float:
    size, turns = max(where.shape) * SHIFT, np.arange(TURNS) * 2 * np.pi / TURNS
    shifts = [(0, 0), *((round(size * np.sin(turn)), round(size * np.cos(turn))) for turn in turns)]
    scores = np.array([((np.roll(first, shift, (1, 2)) * second).sum(0) * where).sum() for shift in shifts])
    return float((scores[0] - scores[1:].mean()) / max(float(scores[1:].std()), 1e-9))
