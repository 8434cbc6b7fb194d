"""Assessment of a proposed placement: every value the gates need is measured on stainda's own working images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stainda.registration import gates
from stainda.registration.proposals import Proposal
from stainda.registration.results import REFUSED, REGISTERED, RIGID_ONLY
from stainda.registration.sections import SectionImage, rigid_downsample
from stainda.registration.similarity import FrameView, agreement, compared_area, tissue_overlap
from stainda.registration.transforms import Transform, apply_affine

SAMPLED = 4000  # points of tissue at which a deformation is measured


@dataclass(frozen=True, eq=False)
class Assessment:
    """Result of the gates for one proposal. ``transform`` is ``None`` where the section is refused."""

    status: str
    reason: str
    transform: Transform | None
    measures: Mapping[str, Any]


def assess_proposal(
    view: FrameView, frame: SectionImage, proposal: Proposal, max_dim: int, gated: bool = True, rigid_only: bool = False
) -> Assessment:
    """Measure a proposal and apply the gates.

    Args:
        max_dim: longest side of the image of the rigid step, whose pixels the forward-backward gate counts in.
        gated: ``False`` for sections said to be aligned, which are only measured.
        rigid_only: ask only whether the rigid part passes, so that a deformation is worth computing.
    """
    image, rigid, full = proposal.image, proposal.rigid, None if rigid_only else proposal.nonrigid
    brought = view.bring(image, rigid)
    overlap = tissue_overlap(view, brought)
    rigid_agreement = agreement(view.density, brought.density, compared_area(view, brought))
    # the working image of a mirrored section is mirrored already, so only a further mirroring is a fault
    scale, rotation, shear, mirrors = gates.decompose(rigid.matrix)
    expected_scale = image.mpp / frame.mpp if image.mpp and frame.mpp else None
    measures: dict[str, Any] = {
        "n_matches": proposal.n_matches,
        "tissue_overlap": overlap,
        "agreement_rigid": rigid_agreement.value,
        "significance": rigid_agreement.significance,
        "local": rigid_agreement.local,
        "spread": proposal.spread,
        "scale": scale,
        "rotation_degrees": rotation,
        "mirrored": mirrors,
        "folds": 0,
        "attempt": proposal.attempt,
    }
    if not gated:
        return Assessment(REGISTERED, "", rigid, measures)
    placement = gates.Placement(
        # of transforms made elsewhere the number of matches is not known
        n_matches=gates.SURE_MATCHES if proposal.n_matches is None else proposal.n_matches,
        scale=scale,
        expected_scale=expected_scale,
        rotation_degrees=rotation,
        shear=shear,
        turned=mirrors != image.mirrored,
        tissue_overlap=overlap,
        significance=rigid_agreement.significance,
        local=rigid_agreement.local,
        spread=proposal.spread,
        canvas=_canvas(frame, image, rigid),
        mpp=(image.mpp, frame.mpp),
    )
    if reason := gates.refuse_placement(placement):
        return Assessment(REFUSED, reason, None, measures)
    unproven = gates.refuse_unproven(proposal.independent, rigid_agreement.significance, proposal.searched)
    if rigid_only:
        return Assessment(RIGID_ONLY, "", rigid, measures)
    if full is None:
        reason = "no deformation was requested or found"
        return (
            Assessment(REFUSED, unproven, None, measures)
            if unproven
            else Assessment(RIGID_ONLY, reason, rigid, measures)
        )
    warped = view.bring(image, full)
    nonrigid_agreement = agreement(view.density, warped.density, compared_area(view, warped))
    points = full.from_frame(_tissue_points(view, warped.tissue))
    change = full.area_change(points) / np.linalg.det(rigid.matrix[:2, :2])
    round_trip = float(np.percentile(full.round_trip(points), 99))
    deformation = gates.Deformation(
        folded_share=float((change <= 0).mean()),
        area_change_p1=float(np.percentile(change, 1)),
        area_change_p99=float(np.percentile(change, 99)),
        round_trip_p99=round_trip / rigid_downsample(image, max_dim),
        agreement_rigid=rigid_agreement.value,
        agreement_nonrigid=nonrigid_agreement.value,
    )
    measures |= {
        "agreement_nonrigid": nonrigid_agreement.value,
        "area_change_p1": deformation.area_change_p1,
        "area_change_p99": deformation.area_change_p99,
        "round_trip_px": round_trip,
    }
    if reason := gates.refuse_deformation(deformation):
        return (
            Assessment(REFUSED, unproven, None, measures)
            if unproven
            else Assessment(RIGID_ONLY, reason, rigid, measures)
        )
    if reason := gates.refuse_unproven(proposal.independent, nonrigid_agreement.significance, proposal.searched):
        return Assessment(REFUSED, reason, None, measures)
    measures |= {
        "tissue_overlap": tissue_overlap(view, warped),
        "significance": nonrigid_agreement.significance,
        "local": nonrigid_agreement.local,
        "folds": _folds_on_tissue(full, view),
    }
    return Assessment(REGISTERED, "", full, measures)


def _canvas(frame: SectionImage, image: SectionImage, rigid: Transform) -> float:
    """Box around both tissues as they lie in the frame, over the larger one's own box."""
    own = apply_affine(np.linalg.inv(frame.matrix), _box(frame))
    placed = rigid.to_frame(apply_affine(np.linalg.inv(image.matrix), _box(image)))
    both = np.concatenate([own, placed])
    areas = [float(np.prod(np.ptp(points, axis=0))) for points in (own, placed, both)]
    return areas[2] / max(areas[0], areas[1], 1e-9)


def _box(image: SectionImage) -> np.ndarray:
    """Corners (4, 2) of the tissue's box, working pixels."""
    rows, columns = np.nonzero(image.tissue.any(1))[0], np.nonzero(image.tissue.any(0))[0]
    x, y = (columns[0], columns[-1]), (rows[0], rows[-1])
    return np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]], float)


def _folds_on_tissue(transform: Transform, view: FrameView) -> int:
    """Lattice points on tissue of the reference where the displacement turns over; beyond the tissue it is a mere
    continuation, where nothing is propagated."""
    rows, columns = np.nonzero(transform.folds())
    if not len(rows):
        return 0
    frame = apply_affine(transform.post, np.stack([columns, rows], axis=1).astype(float))
    x, y = np.round((frame - view.points[0]) / view.downsample).astype(int).T
    height, width = view.tissue.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return int(view.tissue[y[inside], x[inside]].sum())


def _tissue_points(view: FrameView, tissue: np.ndarray) -> np.ndarray:
    """At most ``SAMPLED`` frame points (n, 2) on tissue of both sections, evenly spread."""
    points = view.points[(view.tissue & tissue).ravel()]
    if not len(points):
        points = view.points
    return points[:: max(1, len(points) // SAMPLED)]
