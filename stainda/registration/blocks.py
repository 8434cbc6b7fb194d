"""One block, from its slides to transforms, a verdict on each section, and the pictures that show it.

Runs in the worker process for VALIS, in this one for sections that are aligned already. A section whose placement
fails a gate gets further attempts without the others; one that fails them all is refused, with the reasons, and has no
transform: it is never taken for aligned.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np

from stainda.cohort.types import Section
from stainda.config import RegistrationConfig
from stainda.errors import AnnotationError
from stainda.files import write_json
from stainda.names import file_name
from stainda.registration.chaining import chained
from stainda.registration.jobs import BlockJob
from stainda.registration.ladder import Ladder, Proposal
from stainda.registration.landmarks import LandmarkPair
from stainda.registration.overlays import draw_overlay
from stainda.registration.results import (
    BLOCK_FORMAT,
    REFUSED,
    REGISTERED,
    overlay_name,
    write_refusal,
)
from stainda.registration.sections import SectionImage, open_sections, working_dim
from stainda.registration.similarity import FrameView, agreement, compared_area
from stainda.registration.transforms import Transform
from stainda.registration.verdict import Verdict, judge
from stainda.run_directory.contents import BLOCK


def register_block(job: BlockJob) -> list[dict[str, Any]]:
    """Register the sections of one block to its reference, and write everything about it.

    Returns:
        The block's rows of quality.csv, one per section other than the reference.
    """
    started, cpu_started = time.monotonic(), _cpu_seconds()
    opened = open_sections(job.sections, working_dim(job.config.max_dim, job.config.nonrigid_dim))
    images = {slide: image for slide, image in opened.items() if isinstance(image, SectionImage)}
    refused = {slide: image.reason for slide, image in opened.items() if not isinstance(image, SectionImage)}
    reference, notes, matches = _choose_reference(job, images)
    verdicts: dict[str, Verdict] = {}
    proposals: dict[str, Proposal] = {}
    attempts: list[dict[str, Any]] = []
    if reference is not None:
        view = FrameView.of(images[reference])
        gated = job.config.method != "identity"
        for proposal in _proposals(job, images, reference, matches, notes, verdicts, view):
            slide = proposal.image.slide
            verdict = judge(view, images[reference], proposal, job.config.max_dim, gated)
            attempts.append({"slide": slide, "outcome": verdict.status, "reason": verdict.reason, **verdict.measures})
            if slide not in verdicts or verdict.status != REFUSED:
                proposals[slide], verdicts[slide] = proposal, verdict
        if job.config.method == "valis" and len(images) > 2:
            _lay_on_neighbours(job, images, reference, notes, proposals, verdicts, attempts)
    return _write(job, images, reference, refused, notes, proposals, verdicts, attempts, matches, started, cpu_started)


def _lay_on_neighbours(
    job: BlockJob,
    images: Mapping[str, SectionImage],
    reference: str,
    notes: dict[str, str],
    proposals: dict[str, Proposal],
    verdicts: dict[str, Verdict],
    attempts: list[dict[str, Any]],
) -> None:
    """Sections that no attempt has laid on the reference are laid on a neighbour that lies there."""
    frame = images[reference]
    placed = {reference: Transform.identity(reference, frame.size)}
    placed |= {slide: one.transform for slide, one in verdicts.items() if one.transform is not None}
    said: dict[str, str] = {}
    for link in chained(images, placed, frame, job.config, said):
        slide, verdict = link.proposal.image.slide, link.verdict
        attempts.append({"slide": slide, "outcome": verdict.status, "reason": verdict.reason, **verdict.measures})
        if verdict.status != REFUSED:
            proposals[slide], verdicts[slide] = link.proposal, verdict
        else:
            said[slide] = _joined(said.get(slide, ""), verdict.reason)
    for slide in [name for name in said if name not in verdicts or verdicts[name].status == REFUSED]:
        notes[slide] = _joined(notes.get(slide, ""), said[slide])


def _choose_reference(job: BlockJob, images: Mapping[str, SectionImage]) -> tuple[str | None, dict[str, str], Any]:
    """The reference's name, notes by slide, and the match counts (where VALIS is used and there is more than one)."""
    notes: dict[str, str] = {}
    names = list(images)
    if not names:
        return None, notes, None
    matches = None
    if job.config.method == "valis" and len(names) > 1:
        from stainda.registration.prematch import Prematch

        matches = Prematch(images, job.config.max_dim)
    wanted = job.config.reference
    if job.config.method == "import" and wanted == "auto":
        from stainda.registration.imports import named_frame

        return named_frame(job.config, names) or names[0], notes, None
    if wanted not in ("auto", "first"):
        stains = {row.slide: row.stain for row in job.sections}
        for slide in names:
            if wanted in (slide, stains[slide]):
                return slide, notes, matches
        notes[""] = f"reference {wanted} is not among the usable sections, so another was chosen"
    if wanted == "first" or matches is None or len(names) == 2:
        # of two sections neither has more matches than the other
        return names[0], notes, matches
    return matches.best_connected(), notes, matches


def _proposals(
    job: BlockJob,
    images: dict[str, SectionImage],
    reference: str,
    matches: Any,
    notes: dict[str, str],
    verdicts: Mapping[str, Verdict],
    view: FrameView,
) -> Iterator[Proposal]:
    """One attempt after the other, for the sections that the attempts before left refused."""
    config, frame = job.config, images[reference]
    others = [slide for slide in images if slide != reference]
    if config.method == "identity":
        for slide in others:
            image = images[slide]
            scale = image.mpp / frame.mpp if image.mpp and frame.mpp else 1.0
            matrix = np.diag([scale, scale, 1.0])
            same = Transform.affine(slide, image.size, reference, frame.size, matrix)
            yield Proposal(image, same, None, None, "identity")
        return
    if config.method == "import":
        from stainda.registration.imports import as_shown, imported_transforms

        for slide, made in imported_transforms(job.sections, config, images, reference, notes).items():
            bent = made if made.forward is not None else None
            yield Proposal(as_shown(images[slide], made), made.rigid, bent, made.about.get("n_matches"), "import")
        return
    if not others:
        return

    def refused(proposal: Proposal) -> bool:
        rigid = judge(view, frame, proposal, config.max_dim, rigid_only=True)
        return rigid.status == REFUSED

    def placed(slide: str) -> bool:
        return slide in verdicts and verdicts[slide].status != REFUSED

    yield from Ladder(images, reference, config, matches, notes, refused, placed).proposals()


def _write(
    job: BlockJob,
    images: Mapping[str, SectionImage],
    reference: str | None,
    refused: dict[str, str],
    notes: Mapping[str, str],
    proposals: Mapping[str, Proposal],
    verdicts: Mapping[str, Verdict],
    attempts: list[dict[str, Any]],
    matches: Any,
    started: float,
    cpu_started: float,
) -> list[dict[str, Any]]:
    """Transforms, refusals, overlays, and last of all ``block.json``."""
    folder = job.out / file_name(job.block)
    folder.mkdir(parents=True, exist_ok=True)
    view = FrameView.of(images[reference]) if reference is not None else None
    transforms: dict[str, Transform] = {}
    rows: list[dict[str, Any]] = []
    sections = {row.slide: row for row in job.sections}
    for slide, section in sections.items():
        if slide == reference:
            size = images[slide].size
            transforms[slide] = Transform.identity(slide, size, about={"status": REGISTERED, "reference": True})
            if len(sections) == 1:
                rows.append(_row(job, slide, slide, REGISTERED, "the only section of its block: nothing to register"))
            continue
        verdict = verdicts.get(slide)
        reason = refused.get(slide) or _joined(
            notes.get(slide, ""), verdict.reason if verdict else "", notes.get("", "")
        )
        if verdict is None or verdict.transform is None:
            reason = reason or "no section of the block could serve as reference"
            refused[slide] = reason
            row = _row(job, slide, reference or "", REFUSED, reason, verdict.measures if verdict else {})
        else:
            if job.config.method == "identity":
                reason = _joined("taken as aligned, as registration.method says", reason)
            about = {"status": verdict.status, "reason": reason, "made_by": _made_by(job.config), **verdict.measures}
            transforms[slide] = replace(verdict.transform, about=_plain(about))
            row = _row(job, slide, str(reference), verdict.status, reason, verdict.measures)
        if reference is not None and view is not None and slide in images:
            row |= _landmark_errors(
                section, sections[reference], proposals.get(slide), transforms.get(slide), images, row
            )
            row |= _overlay(job, view, images, slide, reference, proposals.get(slide), transforms.get(slide))
        rows.append(row)
    for row in rows:  # a call of VALIS places all sections at once: each row states an equal share
        row["seconds"] = round((time.monotonic() - started) / len(rows), 2)
    for slide, transform in transforms.items():
        transform.save(folder / file_name(slide))
    for slide, reason in refused.items():
        write_refusal(folder, slide, reference, reason)
    write_json(BLOCK.inside(folder), {
        "format": BLOCK_FORMAT, "version": 1, "block": job.block, "settings": job.settings, "reference": reference,
        "placed": list(transforms), "refused": refused, "rows": [_plain(row) for row in rows],
        "attempts": [_plain(attempt) for attempt in attempts],
        "matches": matches.table() if matches is not None else {}, "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(_cpu_seconds() - cpu_started, 2),
    })  # fmt: skip
    return rows


def _row(
    job: BlockJob, source: str, target: str, status: str, reason: str, measures: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    head = {"block": job.block, "source": source, "target": target, "status": status, "reason": reason}
    return head | dict(_plain(measures or {}))


def _landmark_errors(
    section: Section,
    target: Section,
    proposal: Proposal | None,
    used: Transform | None,
    images: Mapping[str, SectionImage],
    row: Mapping[str, Any],
) -> dict[str, Any]:
    """Landmark errors where both sections have landmarks: medians before, rigid and non-rigid, and the 90th percentile
    of the transform that is used; in level-0 pixels of the target, and in micrometres where its mpp is known."""
    if section.landmarks is None or target.landmarks is None:
        return {}
    try:
        pair = LandmarkPair.read(section.landmarks, target.landmarks)
    except AnnotationError as error:
        return {"reason": _joined(str(row["reason"]), f"landmarks cannot be read: {error}")}
    if not len(pair):
        return {"reason": _joined(str(row["reason"]), "no landmark has the same id in both sections"), "n_landmarks": 0}
    found: dict[str, float] = {"tre_before_px": float(np.median(pair.errors(None)))}
    if proposal is not None:
        found["tre_rigid_px"] = float(np.median(pair.errors(proposal.rigid)))
        if proposal.nonrigid is not None:
            found["tre_nonrigid_px"] = float(np.median(pair.errors(proposal.nonrigid)))
    if used is not None:
        found["tre_p90_px"] = float(np.percentile(pair.errors(used), 90))
    mpp = images[target.slide].mpp
    if mpp:
        found |= {key.replace("_px", "_um"): value * mpp for key, value in found.items()}
    return _plain({"n_landmarks": len(pair), **found})


def _overlay(
    job: BlockJob,
    view: FrameView,
    images: Mapping[str, SectionImage],
    slide: str,
    reference: str,
    proposal: Proposal | None,
    used: Transform | None,
) -> dict[str, Any]:
    """The picture of one pair, and how well structures agreed before."""
    image = images[slide]
    same = Transform.identity(slide, image.size, reference, images[reference].size)
    before = view.bring(image, same)
    shown = used or (proposal.rigid if proposal else same)
    name = overlay_name(job.block, slide, reference)
    label = f"{slide}{'' if used else ' (REFUSED)'}"
    frame = images[reference]
    colours = view.colours(image, shown), view.colours(frame, Transform.identity(reference, frame.size))
    draw_overlay(job.out / "overlays" / name, view, before, view.bring(image, shown), colours, label, reference)
    value = agreement(view.density, before.density, compared_area(view, before)).value
    return _plain({"overlay": f"overlays/{name}", "agreement_before": value})


def _cpu_seconds() -> float:
    """Processor time of this process and of the children it has waited for (VALIS runs in them)."""
    return sum(os.times()[:4])


def _made_by(config: RegistrationConfig) -> dict[str, Any]:
    if config.method != "valis":
        return {"method": config.method}
    packages = ("valis-wsi", "opencv-contrib-python-headless", "numpy", "SimpleITK")
    versions: dict[str, str] = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return {
        "method": "valis",
        "detector": config.detector,
        "processing": config.processing,
        "max_dim": config.max_dim,
        "versions": versions,
    }


def _joined(*parts: str) -> str:
    return "; ".join(dict.fromkeys(part for part in parts if part))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """NumPy scalars as Python's, numbers with as many digits as they are worth."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, np.generic):
            value = value.item()
        out[key] = float(f"{value:.5g}") if isinstance(value, float) else value
    return out
