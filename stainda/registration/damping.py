"""Damping of a deformation to the affine placement in parts where it cannot be trusted, smoothly, and marking of them.

A part is in doubt where the deformation swells, shrinks or folds the tissue beyond what a section can, where structures
agree worse than without it, or where two deformations made independently of each other lead to different places. There
it is damped to nothing and the place is marked unsure; elsewhere it is kept as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.registration import gates
from stainda.registration.fields import jacobian
from stainda.registration.held_back import agreement_map
from stainda.registration.similarity import Brought, DensityGradients, FrameView

FALL = 12.0  # view pixels: a third of the way from full deformation to none
WINDOW = 16.0  # standard deviation, view pixels, of the neighbourhood whose agreement is compared
SMOOTHER = (4.0, 8.0)  # standard deviations, view pixels, tried before a part is given up
FAULTY = 0.25  # of a part in which two deformations are apart: from here on one's fault is a fault in all of it
OUTLINE = 8  # view pixels around the tissue in which deformations are compared: its border is a strong structure
ROUNDS = 6  # times that way is lengthened where the damping itself folds


@dataclass(frozen=True, eq=False)
class Damped:
    """``displacement`` float (2, h, w), view pixels; ``unsure`` float (h, w), 0 to 1: the share taken away, and
    1 where the moving section lacks tissue."""

    displacement: Array
    unsure: Array


@dataclass(frozen=True, eq=False)
class Disagreement:
    """Two calmed displacements, the faults of each, bool (h, w), and where both could be right and lead to different
    places, bool (h, w)."""

    displacements: tuple[Array, Array]
    faults: tuple[Array, Array]
    part: Array

    @classmethod
    def of(cls, view: FrameView, brought: Brought, first: Array, second: Array) -> Disagreement:
        pair = calmed(first), calmed(second)
        own = [implausible(displacement) | worse(view, brought, displacement) for displacement in pair]
        tissue = ndimage.binary_fill_holes(view.tissue)
        near = ndimage.binary_dilation(tissue, iterations=OUTLINE)  # beyond, neither is more than a continuation
        apart = near & dissenting(*pair, gates.MAX_DISSENT / 2) & ~(own[0] & own[1])
        faults = tuple(spread_over(fault & ~other, apart) | fault for fault, other in zip(own, own[::-1], strict=True))
        part = near & ~faults[0] & ~faults[1] & dissenting(*pair, gates.MAX_DISSENT)
        return cls(pair, (faults[0], faults[1]), part)


def damped(view: FrameView, brought: Brought, displacement: Array) -> Damped | None:
    """A displacement, damped where it is in doubt; ``None`` where no damping makes it a deformation without folds.

    Args:
        brought: the section under the affine placement.
    """
    calm = calmed(displacement)
    return _without_folds(view, brought, calm, implausible(calm) | worse(view, brought, calm))


def damped_mean(view: FrameView, brought: Brought, disagreement: Disagreement) -> Damped | None:
    """The same of two displacements: their mean where both can be trusted, and one of them where it alone can."""
    faults = disagreement.faults
    mine, theirs = (share_kept(fault) + 1e-3 for fault in faults)
    mean = (disagreement.displacements[0] * mine + disagreement.displacements[1] * theirs) / (mine + theirs)
    return _without_folds(view, brought, mean, faults[0] & faults[1] | disagreement.part | implausible(mean))


def _without_folds(view: FrameView, brought: Brought, displacement: Array, doubt: Array) -> Damped | None:
    tissue = ndimage.binary_fill_holes(view.tissue)
    for turn in range(ROUNDS):
        kept = share_kept(doubt, FALL * 1.4**turn)
        calm = displacement * kept
        left = implausible(calm)
        if not left.any():
            alone = ndimage.binary_opening(tissue & ~_tissue(brought), iterations=gates.ALONE)
            return Damped(calm, np.maximum(1 - kept, ndimage.gaussian_filter(alone.astype(float), 2.0)))
        doubt = doubt | ndimage.binary_dilation(left, iterations=2)
    return None


def dissenting(first: Array, second: Array, share: float) -> Array:
    """Where two displacements lead to places more than a share of the view's longer side apart, bool (h, w)."""
    return np.asarray(np.hypot(*(first - second)) > share * max(first.shape))


def spread_over(fault: Array, apart: Array) -> Array:
    """A fault of one displacement, and what parts in which the two are apart it covers by at least ``FAULTY``: bool
    (h, w)."""
    labels, number = ndimage.label(fault | apart)
    share = ndimage.mean(fault, labels, np.arange(number + 1))
    return fault | ((labels > 0) & (share >= FAULTY)[labels])


def calmed(displacement: Array) -> Array:
    """A displacement smoothed where it changes areas too much: a small swirl is no reason to give a place up."""
    for sigma in SMOOTHER:
        sharp = implausible(displacement)
        if not sharp.any():
            break
        smooth = np.stack([ndimage.gaussian_filter(part, sigma, mode="nearest") for part in displacement])
        kept = share_kept(sharp, sigma)
        displacement = displacement * kept + smooth * (1 - kept)
    return displacement


def share_kept(doubt: Array, fall: float = FALL) -> Array:
    """What is kept of a displacement, float (h, w): 0 where it is in doubt, rising smoothly to 1 in 3 ``fall`` around
    it, by at most 0.05 a pixel."""
    if not doubt.any():
        return np.ones(doubt.shape)
    share = np.clip((ndimage.distance_transform_edt(~doubt) - fall / 2) / (2.5 * fall), 0, 1)
    return ndimage.gaussian_filter(share * share * (3 - 2 * share), fall / 8, mode="nearest")


def implausible(displacement: Array) -> Array:
    """Where a displacement changes areas beyond ``gates.LOCAL_AREA_CHANGE``, bool (h, w); folds are among them."""
    change = jacobian(displacement)
    low, high = gates.LOCAL_AREA_CHANGE
    return (change < low) | (change > high)


def worse(view: FrameView, brought: Brought, displacement: Array) -> Array:
    """Where structures agree worse than without the displacement, bool (h, w)."""
    y, x = np.mgrid[: view.density.shape[0], : view.density.shape[1]]
    where = y + displacement[1], x + displacement[0]
    moved = ndimage.map_coordinates(brought.density, where, order=1, mode="nearest")
    inside = ndimage.map_coordinates(brought.inside.astype(float), where, order=1) > 0.5
    compared = ndimage.binary_fill_holes(view.tissue) & brought.inside & inside
    after = agreement_map(view.structures, DensityGradients(moved), compared)
    gain = after - agreement_map(view.structures, brought.structures, compared)
    weight = ndimage.gaussian_filter(compared.astype(float), WINDOW)
    mean = ndimage.gaussian_filter(gain * compared, WINDOW) / np.maximum(weight, 1e-3)
    return (mean < -gates.MAX_LOSS) & (weight > 0.2)


def _tissue(brought: Brought) -> Array:
    return ndimage.binary_fill_holes(brought.tissue)
