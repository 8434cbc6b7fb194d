"""From a rigid placement to the deformation that is kept: affine where held-back parts support it, then stainda's own
deformation, VALIS's, or the mean of both, each damped to the affine placement where it cannot be trusted.

Everything happens on the view of the reference (``similarity.FrameView``): a displacement ``d`` float (2, h, w), view
pixels, says where the placed section has what the reference shows at a point ``u`` of the view: at ``u + d(u)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.registration import gates
from stainda.registration.affine import apply_affine, fit_affine
from stainda.registration.damping import OUTLINE, Damped, Disagreement, damped, damped_mean
from stainda.registration.deformation import (
    FIRM,
    LEVELS,
    SOFT,
    STIFF,
    DeformationLevel,
    Stiffness,
    exponential,
    velocity,
)
from stainda.registration.fields import invert
from stainda.registration.held_back import FOLDS, Gain, HeldBack, agreement_map
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import (
    Brought,
    DensityGradients,
    FrameView,
    StructureAgreement,
    agreement,
    compared_area,
)
from stainda.registration.transforms import Transform

Deformations = Literal["both", "own", "valis"]
SPACING = 3  # view pixels between the lattice points of a stored deformation: 1.5 times the working image's 3
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
    place = SectionOnView.of(view, image, rigid)
    base, reason = (None, "") if wanted == "valis" else _affine(place, rigid)
    if base is not None:
        place = SectionOnView.of(view, image, base)
    kept = base or rigid
    if not nonrigid:
        return Refined(kept, base is not None, reason)
    theirs = None if valis is None or wanted == "own" else _displacement(view, kept, valis)
    candidates: list[tuple[str, Damped | None]] = []
    note = ""
    if wanted != "valis":
        own = OwnDeformation.fit(place)
        note = f"own deformation: {own.gain}"
        if theirs is not None and not own.gain.contradicted:
            disagreement = Disagreement.of(view, place.brought, own.displacement, theirs)
            right = own.choice(place, theirs, disagreement.part) if disagreement.part.any() else None
            if right is None or (right == "own" and not own.gain.supported):
                candidates.append(("own and VALIS", damped_mean(view, place.brought, disagreement)))
            elif right == "VALIS":
                candidates.append(("VALIS", damped(view, place.brought, theirs)))
        if own.gain.supported:
            candidates.append(("own", damped(view, place.brought, own.displacement)))
    if theirs is not None and "VALIS" not in dict(candidates):
        candidates.append(("VALIS", damped(view, place.brought, theirs)))
    bent = tuple((name, as_transform(view, kept, calm)) for name, calm in candidates if calm is not None)
    return Refined(kept, base is not None, reason, bent, note)


@dataclass(frozen=True, eq=False)
class SectionOnView:
    """A section as it lies on a view under an affine placement; ``compared`` bool (h, w), with the tissue's outline."""

    view: FrameView
    brought: Brought
    compared: Array
    held: HeldBack

    @classmethod
    def of(cls, view: FrameView, image: SectionImage, placement: Transform) -> SectionOnView:
        brought = view.bring(image, placement)
        tissue = ndimage.binary_fill_holes(view.tissue)
        compared = ndimage.binary_dilation(tissue, iterations=OUTLINE)
        return cls(view, brought, compared, HeldBack.of(view.density.shape))

    def velocity(self, stiffness: Stiffness, held: bool, levels: tuple[DeformationLevel, ...] | None = None) -> Array:
        compared = self.compared & self.held.seen if held else self.compared
        return velocity(
            self.view.density, self.brought.density, compared, self.brought.inside, stiffness=stiffness,
            levels=levels or (COARSE if held else LEVELS),
        )  # fmt: skip

    def held_means(self, displacement: Array | None, part: Array | None = None) -> Array:
        """Agreement in each held-back square (k,), the section displaced; only what lies in a part, bool (h, w)."""
        structures, inside = self.brought.structures, self.brought.inside
        if displacement is not None:
            structures = DensityGradients(shifted(self.brought.density, displacement))
            inside = shifted(inside.astype(float), displacement) > 0.5
        where = self.compared & inside
        agreement = agreement_map(self.view.structures, structures, where)
        return self.held.means(agreement, where if part is None else where & part)


def unseen_agreement(
    place: SectionOnView, levels: tuple[DeformationLevel, ...] = COARSE, folds: Sequence[int] = range(FOLDS)
) -> StructureAgreement:
    """How well structures agree after the own deformation of a placed section, in the parts that it was not fitted to.

    Every square is held back once, so that all of the section is judged unseen. A deformation of tissue that has
    nothing in common fits what it sees, and brings nothing together elsewhere. Chance is independent between the
    ``folds``, so that their sum over the square root of their number is in standard deviations again.
    """
    view, brought, parts = place.view, place.brought, []
    for fold in folds:
        held = replace(place, held=HeldBack.of(view.density.shape, fold))
        displacement = exponential(held.velocity(FIRM, held=True, levels=levels))
        layers = (brought.density, brought.tissue.astype(float), brought.inside.astype(float))
        density, tissue, inside = (shifted(layer, displacement) for layer in layers)
        moved = Brought(density, tissue > 0.5, inside > 0.5)
        parts.append(agreement(view.structures, moved.structures, compared_area(view, moved) & held.held.judged))
    return StructureAgreement(
        float(np.mean([each.value for each in parts])),
        float(np.sum([each.significance for each in parts]) / np.sqrt(len(parts))),
        float(np.mean([each.local for each in parts])),
    )


def _affine(place: SectionOnView, rigid: Transform) -> tuple[Transform | None, str]:
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


@dataclass(frozen=True, eq=False)
class OwnDeformation:
    """stainda's own deformation, as stiff as held-back parts agree best with.

    It stands alone only where they support it; next to another one that was made independently it is enough that they
    do not contradict it, since the mean of two estimates errs less than either.

    Attributes:
        displacement: fitted to the whole section.
        gain: what held-back parts say of the same fitted without them.
    """

    displacement: Array
    stiffness: Stiffness
    gain: Gain

    @classmethod
    def fit(cls, place: SectionOnView) -> OwnDeformation:
        before = place.held_means(None)
        gains = []
        for stiffness in (SOFT, FIRM, STIFF):
            moved = exponential(place.velocity(stiffness, held=True))
            gains.append((Gain.of(before, place.held_means(moved)), stiffness))
        gain, stiffness = max(gains, key=lambda candidate: candidate[0].mean)
        return cls(exponential(place.velocity(stiffness, held=False)), stiffness, gain)

    def choice(self, place: SectionOnView, valis: Array, part: Array) -> Literal["own", "VALIS"] | None:
        """Whether this deformation or VALIS's is right in a part, bool (h, w), where they lead to different places.

        Every square of the part is compared twice: with this deformation fitted to it, which favours this one, and
        fitted without it, which favours VALIS's, which may have seen it. The right one agrees better by two standard
        errors in the comparison that favours it, and no worse on average in the one that does not.
        """
        others, blind, fitted = [], [], []
        for fold in range(FOLDS):
            held = replace(place, held=HeldBack.of(place.view.density.shape, fold))
            others.append(held.held_means(valis, part))
            fitted.append(held.held_means(self.displacement, part))
            blind.append(held.held_means(exponential(held.velocity(self.stiffness, held=True)), part))
        there, unseen, seen = (np.concatenate(means) for means in (others, blind, fitted))
        if Gain.of(there, seen).supported and Gain.of(there, unseen).mean >= 0:
            return "own"
        if Gain.of(unseen, there).supported and Gain.of(seen, there).mean >= 0:
            return "VALIS"
        return None


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
