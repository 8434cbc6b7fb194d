"""Assessment of a proposed placement: every value the gates need is measured on stainda's own working images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.registration import gates
from stainda.registration.affine import apply_affine
from stainda.registration.proposals import Proposal
from stainda.registration.refinement import Deformations, Refined, SectionOnView, refine, unseen_agreement
from stainda.registration.results import REFUSED, REGISTERED, RIGID_ONLY
from stainda.registration.sections import SectionImage, rigid_downsample
from stainda.registration.similarity import FrameView, agreement, compared_area, tissue_overlap
from stainda.registration.transforms import Transform

SAMPLED = 4000  # points of tissue at which a deformation is measured


@dataclass(frozen=True, eq=False)
class Assessment:
    """Result of the gates for one proposal. ``transform`` is ``None`` where the section is refused."""

    status: str
    reason: str
    transform: Transform | None
    measures: Mapping[str, Any]


def assess_proposal(
    view: FrameView,
    frame: SectionImage,
    proposal: Proposal,
    max_dim: int,
    *,
    gated: bool = True,
    rigid_only: bool = False,
    deformations: Deformations | None = None,
    nonrigid: bool = True,
    stretched: bool = True,
) -> Assessment:
    """Measure a proposal, improve it, and apply the gates.

    Args:
        max_dim: longest side of the image of the rigid step, whose pixels the forward-backward gate counts in.
        gated: ``False`` for sections said to be aligned, which are only measured.
        rigid_only: ask only whether the rigid part passes, so that a deformation is worth computing.
        deformations: whose are tried, after an affine step (``refinement.refine``); ``None``: the proposal's as it is.
        nonrigid: ``False``: none is, only the affine step is made.
        stretched: whether tissue may be stretched so far that no rigid placement makes its structures coincide.
    """
    image, rigid, full = proposal.image, proposal.rigid, None if rigid_only else proposal.nonrigid
    brought = view.bring(image, rigid)
    overlap = tissue_overlap(view, brought)
    rigid_agreement = agreement(view.structures, brought.structures, compared_area(view, brought))
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

    def refuse_unseen(reason: str) -> str | None:
        """Structures that do not coincide yet may do so after a deformation, in parts that it has not seen."""
        if not (stretched and nonrigid and deformations in ("own", "both")):
            return reason
        unseen = unseen_agreement(SectionOnView.of(view, image, rigid))
        measures.update(significance_unseen=unseen.significance, local_unseen=unseen.local)
        further = gates.refuse_unseen(unseen.significance, unseen.local)
        return further and f"{reason}; {further}"

    by_deformation = False
    if reason := gates.refuse_structures(placement):
        if further := refuse_unseen(reason):
            return Assessment(REFUSED, further, None, measures)
        by_deformation = True
    if rigid_only:
        return Assessment(RIGID_ONLY, "", rigid, measures)
    if not by_deformation:
        given = None if full is None else _deformed(view, image, rigid, rigid_agreement.value, full, max_dim)
        # stainda's own deformation maximises this agreement, so where it was fitted it never proves a placement
        proof = rigid_agreement.significance if given is None or given.reason else given.significance
        if reason := gates.refuse_unproven(proposal.independent, proof, proposal.searched):
            if further := refuse_unseen(reason):
                return Assessment(REFUSED, further, None, measures)
            by_deformation = True
    if deformations is None:
        refined = Refined(rigid, False, "", () if full is None else (("given", full),))
    else:
        refined = refine(view, image, rigid, full, deformations, nonrigid)
    kept = _kept(view, image, refined, rigid_agreement.value, measures, max_dim)
    if by_deformation and kept.status != REGISTERED:
        return Assessment(REFUSED, f"stretched, and no deformation can be kept: {kept.reason}", None, kept.measures)
    if by_deformation and (reason := gates.refuse_doubtful(kept.measures["unsure"])):
        return Assessment(REFUSED, reason, None, kept.measures)
    return kept


def _kept(
    view: FrameView,
    image: SectionImage,
    refined: Refined,
    agreement_rigid: float,
    measures: dict[str, Any],
    max_dim: int,
) -> Assessment:
    """The first deformation that passes its gates, else the placement without one."""
    measures = measures | {"model": "affine" if refined.affine else "rigid", "unsure": 0.0}
    before = agreement_rigid
    if refined.affine:
        brought = view.bring(image, refined.base)
        before = agreement(view.structures, brought.structures, compared_area(view, brought)).value
        measures |= {"agreement_affine": before, "stretch": gates.decompose(refined.base.matrix)[2]}
    reasons: list[str] = []
    for name, full in refined.bent:
        tried = _deformed(view, image, refined.base, before, full, max_dim)
        if not reasons:
            measures |= tried.measures
        if tried.reason:
            reasons.append(tried.reason if name == "given" else f"{name}: {tried.reason}")
            continue
        measures |= {**tried.measures, "significance": tried.significance, "local": tried.local}
        if name != "given":
            measures["model"] = f"{measures['model']}, {name}"
        return Assessment(REGISTERED, "", full, measures)
    if not refined.bent:
        reasons.append("; ".join(part for part in ("no deformation was requested or found", refined.note) if part))
    words = [refined.reason] if refined.reason else []
    return Assessment(RIGID_ONLY, "; ".join(words + reasons), refined.base, measures)


@dataclass(frozen=True, eq=False)
class _Deformed:
    """Measurements of one deformation, and the reason why it is not kept, if any."""

    reason: str | None
    significance: float
    local: float
    measures: Mapping[str, Any]


def _deformed(
    view: FrameView, image: SectionImage, base: Transform, before: float, full: Transform, max_dim: int
) -> _Deformed:
    """Measure a deformation against the affine placement ``base``, under which structures agree by ``before``."""
    warped = view.bring(image, full)
    after = agreement(view.structures, warped.structures, compared_area(view, warped))
    frame_points = _tissue_points(view, warped.tissue)
    points = full.from_frame(frame_points)
    change = full.area_change(points) / np.linalg.det(base.matrix[:2, :2])
    round_trip = float(np.percentile(full.round_trip(points), 99))
    deformation = gates.Deformation(
        folded_share=float((change <= 0).mean()),
        area_change_p1=float(np.percentile(change, 1)),
        area_change_p99=float(np.percentile(change, 99)),
        round_trip_p99=round_trip / rigid_downsample(image, max_dim),
        agreement_rigid=before,
        agreement_nonrigid=after.value,
        unsure=float((full.doubt(frame_points) > 0.5).mean()),
    )
    measures = {
        "agreement_nonrigid": after.value,
        "area_change_p1": deformation.area_change_p1,
        "area_change_p99": deformation.area_change_p99,
        "round_trip_px": round_trip,
        "unsure": deformation.unsure,
    }
    reason = gates.refuse_deformation(deformation)
    if reason is None:
        measures |= {"tissue_overlap": tissue_overlap(view, warped), "folds": _folds_on_tissue(full, view)}
    return _Deformed(reason, after.significance, after.local, measures)


def _canvas(frame: SectionImage, image: SectionImage, rigid: Transform) -> float:
    """Box around both tissues as they lie in the frame, over the larger one's own box."""
    own = apply_affine(np.linalg.inv(frame.matrix), _box(frame))
    placed = rigid.to_frame(apply_affine(np.linalg.inv(image.matrix), _box(image)))
    both = np.concatenate([own, placed])
    areas = [float(np.prod(np.ptp(points, axis=0))) for points in (own, placed, both)]
    return areas[2] / max(areas[0], areas[1], 1e-9)


def _box(image: SectionImage) -> Array:
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


def _tissue_points(view: FrameView, tissue: Array) -> Array:
    """At most ``SAMPLED`` frame points (n, 2) on tissue of both sections, evenly spread."""
    points = view.points[(view.tissue & tissue).ravel()]
    if not len(points):
        points = view.points
    return points[:: max(1, len(points) // SAMPLED)]
