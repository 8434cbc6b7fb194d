"""From a rigid placement to the deformation that is kept: affine where held-back parts support it, then stainda's own
deformation, VALIS's, or the mean of both, each damped to the affine placement where it cannot be trusted.

Everything happens on the view of the reference (``similarity.FrameView``): a displacement ``d`` float (2, h, w), view
pixels, says where the placed section has what the reference shows at a point ``u`` of the view: at ``u + d(u)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.registration import gates
from stainda.registration.affine import apply_affine, fit_affine
from stainda.registration.damping import Damped, damped
from stainda.registration.deformation import FIRM, LEVELS, SOFT, STIFF, Stiffness, exponential, velocity
from stainda.registration.fields import invert
from stainda.registration.held_back import Gain, HeldBack, agreement_map
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import Brought, FrameView
from stainda.registration.transforms import Transform

Deformations = Literal["both", "own", "valis"]
SPACING = 3  # view pixels between the lattice points of a stored deformation: 1.5 times the working image's 3
OUTLINE = 8  # view pixels around the tissue that are compared, too: its border is the strongest structure of all
COARSE = LEVELS[:3]  # levels of the fits that are judged by held-back parts: enough to tell one stiffness from another


@dataclass(frozen=True, eq=False)
class Refined:
    """Attempts to improve a placement.

    Attributes:
        base: the placement that deformations start from and are damped to; affine where that is supported.
        affine: whether it is. reason: why, or why not.
        bent: what may be kept, best first: name and transform (with its ``unsure`` places).
        note: on the own deformation, where it was not proposed.
    """

    base: Transform
    affine: bool
    reason: str
    bent: tuple[tuple[str, Transform], ...] = ()
    note: str = ""


def refine(
    view: FrameView,
    image: SectionImage,
    rigid: Transform,
    valis: Transform | None,
    wanted: Deformations = "both",
    nonrigid: bool = True,
) -> Refined:
    """Improve a rigid placement that has passed its gates.

    Args:
        rigid: of ``image`` to the reference. valis: the same with VALIS's deformation, where there is one.
        wanted: whose deformations are tried; ``nonrigid``: whether any is.
    """
    place = _Place.of(view, image, rigid)
    base, reason = (None, "") if wanted == "valis" else _affine(place, rigid)
    if base is not None:
        place = _Place.of(view, image, base)
    kept = base or rigid
    if not nonrigid:
        return Refined(kept, base is not None, reason)
    theirs = None if valis is None or wanted == "own" else _displacement(view, kept, valis)
    candidates: list[tuple[str, Array, Array | None]] = []
    note = ""
    if wanted != "valis":
        own, gain = _own(place, alone=theirs is None)
        note = f"own deformation: {gain}"
        if own is not None and theirs is not None:
            candidates.append(("own and VALIS", own, theirs))
        if own is not None and gain.supported:
            candidates.append(("own", own, None))
    if theirs is not None:
        candidates.append(("VALIS", theirs, None))
    bent = []
    for name, first, second in candidates:
        calm = damped(view, place.brought, first, second)
        if calm is not None:
            bent.append((name, as_transform(view, kept, calm)))
    return Refined(kept, base is not None, reason, tuple(bent), note)


@dataclass(frozen=True, eq=False)
class _Place:
    """A section as it lies on a view under an affine placement; ``compared`` bool (h, w), with the tissue's outline."""

    view: FrameView
    brought: Brought
    compared: Array
    held: HeldBack

    @classmethod
    def of(cls, view: FrameView, image: SectionImage, placement: Transform) -> _Place:
        brought = view.bring(image, placement)
        tissue = ndimage.binary_fill_holes(view.tissue)
        compared = ndimage.binary_dilation(tissue, iterations=OUTLINE)
        return cls(view, brought, compared, HeldBack.of(view.density.shape))

    def velocity(self, stiffness: Stiffness, held: bool) -> Array:
        compared = self.compared & self.held.seen if held else self.compared
        levels = COARSE if held else LEVELS
        return velocity(
            self.view.density, self.brought.density, compared, self.brought.inside, stiffness=stiffness, levels=levels
        )

    def held_means(self, displacement: Array | None) -> Array:
        """Agreement in each held-back square (k,), the section displaced."""
        density, inside = self.brought.density, self.brought.inside
        if displacement is not None:
            density, inside = shifted(density, displacement), shifted(inside.astype(float), displacement) > 0.5
        where = self.compared & inside
        return self.held.means(agreement_map(self.view.density, density, where), where)


def _affine(place: _Place, rigid: Transform) -> tuple[Transform | None, str]:
    """The affine placement that a stiff deformation leads to, where parts held back from it support it."""
    displacement = exponential(place.velocity(STIFF, held=True))
    tissue = ndimage.binary_fill_holes(place.view.tissue) & place.brought.inside & place.held.seen
    rows, columns = np.nonzero(tissue)
    step = max(1, len(rows) // 5000)
    rows, columns = rows[::step], columns[::step]
    if len(rows) < 50:
        return None, "too little tissue for an affine fit"
    grid_points = np.stack([columns, rows], axis=1).astype(float)
    matrix = robust_affine(grid_points, grid_points + displacement[:, rows, columns].T)
    if reason := gates.refuse_affine(matrix):
        return None, reason
    y, x = np.mgrid[: place.view.density.shape[0], : place.view.density.shape[1]]
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    moved = (apply_affine(matrix, points) - points).T.reshape(2, *y.shape)
    gain = Gain.of(place.held_means(None), place.held_means(moved))
    if not gain.supported:
        return None, f"affine is not supported: {gain}"
    pixels = place.view.matrix
    fitted = pixels @ np.linalg.inv(matrix) @ np.linalg.inv(pixels) @ rigid.matrix
    base = Transform.affine(rigid.slide, rigid.size, rigid.frame, rigid.frame_size, fitted)
    if gates.decompose(base.matrix)[2] > gates.MAX_SHEAR:
        return None, f"affine shears the section by {gates.decompose(base.matrix)[2]:.2f} (at most {gates.MAX_SHEAR})"
    return base, f"affine: {gain}"


def robust_affine(source: Array, target: Array) -> Array:
    """The affine matrix (3, 3) from points (n, 2) to points (n, 2) that least absolute distances lead to, then Tukey's
    biweight, so that parts which have moved by themselves do not pull at the rest."""
    matrix = fit_affine(source, target)
    for turn in range(20):
        rest = np.linalg.norm(apply_affine(matrix, source) - target, axis=1)
        typical = max(float(np.median(rest)), 1e-6)
        if turn < 15:
            weight = 1 / np.maximum(rest, 0.1 * typical)
        else:
            weight = np.clip(1 - (rest / (4.685 * 1.4826 * typical)) ** 2, 0, None) ** 2
        matrix = fit_affine(source, target, weight)
    return matrix


def _own(place: _Place, alone: bool) -> tuple[Array | None, Gain]:
    """stainda's own deformation, as stiff as held-back parts agree best with, and what these parts say of it.

    It stands alone only where they support it; next to another one that was made independently it is enough that they
    do not contradict it, since the mean of two estimates errs less than either. Else ``None``.
    """
    before = place.held_means(None)
    gains = []
    for stiffness in (SOFT, FIRM, STIFF):
        moved = exponential(place.velocity(stiffness, held=True))
        gains.append((Gain.of(before, place.held_means(moved)), stiffness))
    gain, stiffness = max(gains, key=lambda candidate: candidate[0].mean)
    if gain.contradicted or (alone and not gain.supported):
        return None, gain
    return exponential(place.velocity(stiffness, held=False)), gain


def shifted(layer: Array, displacement: Array) -> Array:
    """An image (h, w) at ``u + d(u)``, linear."""
    y, x = np.mgrid[: layer.shape[0], : layer.shape[1]]
    return ndimage.map_coordinates(layer, (y + displacement[1], x + displacement[0]), order=1, mode="nearest")


def _displacement(view: FrameView, base: Transform, full: Transform) -> Array:
    """The displacement of another transform of the same section, against the affine placement ``base``."""
    back = np.linalg.inv(view.matrix)
    base_points = apply_affine(back @ base.matrix, full.from_frame(view.points))
    own_points = apply_affine(back, view.points)
    return (base_points - own_points).T.reshape(2, *view.density.shape)


def as_transform(view: FrameView, base: Transform, calm: Damped) -> Transform:
    """The transform of a damped displacement, with where it is unsure."""
    post = view.matrix @ np.diag([SPACING, SPACING, 1.0])
    field = (calm.displacement[:, ::SPACING, ::SPACING] / SPACING).astype(np.float32)
    unsure = calm.unsure[::SPACING, ::SPACING].astype(np.float32)
    return replace(
        base, pre=np.linalg.inv(post) @ base.matrix, post=post, forward=invert(field), backward=field, unsure=unsure
    )
