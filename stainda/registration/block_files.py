"""Files of a registered block: transforms, refusals, overlay images, rows of quality.csv, ``block.json``."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import numpy as np

from stainda.cohort.types import Section
from stainda.config import RegistrationConfig
from stainda.errors import AnnotationError
from stainda.files import write_json
from stainda.names import file_name
from stainda.registration.adjustment import Adjustment
from stainda.registration.assessment import Assessment
from stainda.registration.landmarks import LandmarkPair
from stainda.registration.opened_block import OpenedBlock
from stainda.registration.outcomes import Outcomes, joined
from stainda.registration.overlays import draw_overlay
from stainda.registration.results import (
    BLOCK_FORMAT,
    REFUSED,
    REGISTERED,
    overlay_name,
    write_refusal,
)
from stainda.registration.similarity import agreement, compared_area
from stainda.registration.transforms import Transform
from stainda.run_directory.contents import BLOCK


class Stopwatch:
    """Elapsed wall-clock and CPU time; child processes are included, because VALIS runs in them."""

    def __init__(self) -> None:
        self._started, self._cpu_started = time.monotonic(), _cpu_seconds()

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def cpu_seconds(self) -> float:
        return _cpu_seconds() - self._cpu_started


def write_block(
    block: OpenedBlock, outcomes: Outcomes | None, adjustment: Adjustment, watch: Stopwatch
) -> list[dict[str, Any]]:
    """Write transforms, refusals, overlays, and last of all ``block.json``.

    Args:
        outcomes: ``None`` where no section could serve as reference.
        adjustment: of the sections to each other, whose comparisons are recorded.

    Returns:
        The block's rows of quality.csv, one per section other than the reference.
    """
    job, writer = block.job, _Writer(block, outcomes)
    for section in job.sections:
        writer.add(section)
    for row in writer.rows:  # a call of VALIS places all sections at once: each row states an equal share
        row["seconds"] = round(watch.seconds() / len(writer.rows), 2)
    for slide, transform in writer.transforms.items():
        transform.save(writer.folder / file_name(slide))
    for slide, reason in writer.refused.items():
        write_refusal(writer.folder, slide, block.reference, reason)
    attempts = [] if outcomes is None else outcomes.attempts
    write_json(BLOCK.inside(writer.folder), {
        "format": BLOCK_FORMAT, "version": 1, "block": job.block, "settings": job.settings,
        "reference": block.reference, "placed": list(writer.transforms), "refused": writer.refused,
        "rows": [_plain(row) for row in writer.rows], "attempts": [_plain(attempt) for attempt in attempts],
        "comparisons": [_plain(asdict(cycle)) for cycle in adjustment.cycles],
        "matches": block.matches.table() if block.matches is not None else {}, "seconds": round(watch.seconds(), 2),
        "cpu_seconds": round(watch.cpu_seconds(), 2),
    })  # fmt: skip
    return writer.rows


class _Writer:
    """Sections of one block, one after the other, to rows, transforms and reasons of refusal."""

    def __init__(self, block: OpenedBlock, outcomes: Outcomes | None) -> None:
        self._block, self._outcomes = block, outcomes
        self._sections = {row.slide: row for row in block.job.sections}
        self.folder = block.job.out / file_name(block.job.block)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.transforms: dict[str, Transform] = {}
        self.refused: dict[str, str] = dict(block.unusable)
        self.rows: list[dict[str, Any]] = []

    def add(self, section: Section) -> None:
        block, slide = self._block, section.slide
        if slide == block.reference:
            about = {"status": REGISTERED, "reference": True}
            self.transforms[slide] = Transform.identity(slide, block.images[slide].size, about=about)
            if len(self._sections) == 1:
                alone = "the only section of its block: nothing to register"
                self.rows.append(self._row(slide, slide, REGISTERED, alone))
            return
        assessment = None if self._outcomes is None else self._outcomes.assessments.get(slide)
        notes = block.notes
        reason = self.refused.get(slide) or joined(
            notes.of(slide), assessment.reason if assessment else "", notes.of("")
        )
        if assessment is None or assessment.transform is None:
            reason = self.refused[slide] = reason or "no section of the block could serve as reference"
            row = self._row(slide, block.reference or "", REFUSED, reason, assessment.measures if assessment else {})
        else:
            row = self._placed(slide, assessment, assessment.transform, reason)
        if self._outcomes is not None and slide in block.images:
            row |= self._landmark_errors(section, self._outcomes, str(row["reason"]))
            row |= self._overlay(slide, self._outcomes)
        self.rows.append(row)

    def _placed(self, slide: str, assessment: Assessment, transform: Transform, reason: str) -> dict[str, Any]:
        config = self._block.job.config
        if config.method == "identity":
            reason = joined("taken as aligned, as registration.method says", reason)
        about = {"status": assessment.status, "reason": reason, "made_by": _made_by(config), **assessment.measures}
        self.transforms[slide] = replace(transform, about=_plain(about))
        return self._row(slide, str(self._block.reference), assessment.status, reason, assessment.measures)

    def _row(
        self, source: str, target: str, status: str, reason: str, measures: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        block = self._block.job.block
        head = {"block": block, "source": source, "target": target, "status": status, "reason": reason}
        return head | dict(_plain(measures or {}))

    def _landmark_errors(self, section: Section, outcomes: Outcomes, reason: str) -> dict[str, Any]:
        """Landmark errors where both sections have landmarks: medians before, rigid and non-rigid, and the 90th
        percentile of the transform that is used; in level-0 pixels of the target, and in micrometres where its mpp is
        known."""
        target = self._sections[outcomes.frame.slide]
        if section.landmarks is None or target.landmarks is None:
            return {}
        try:
            pair = LandmarkPair.read(section.landmarks, target.landmarks)
        except AnnotationError as error:
            return {"reason": joined(reason, f"landmarks cannot be read: {error}")}
        if not len(pair):
            return {"reason": joined(reason, "no landmark has the same id in both sections"), "n_landmarks": 0}
        used = self.transforms.get(section.slide)
        lost = len(pair)
        pair = pair if used is None else pair.placed(used)
        lost -= len(pair)
        left_out = f"{lost} landmarks lie where no piece has a place, and are left out" if lost else ""
        if not len(pair):
            return {"reason": joined(reason, left_out), "n_landmarks": 0}
        errors: dict[str, float] = {"tre_before_px": float(np.median(pair.errors(None)))}
        proposal = outcomes.proposals.get(section.slide)
        if proposal is not None:
            errors["tre_rigid_px"] = float(np.median(pair.errors(proposal.rigid)))
            bent = used if used is not None and used.bends else proposal.nonrigid
            if bent is not None:
                errors["tre_nonrigid_px"] = float(np.median(pair.errors(bent)))
        if used is not None:
            errors["tre_px"] = float(np.median(pair.errors(used)))
            errors["tre_p90_px"] = float(np.percentile(pair.errors(used), 90))
        mpp = outcomes.frame.mpp
        if mpp:
            errors |= {key.replace("_px", "_um"): value * mpp for key, value in errors.items()}
        noted = {"reason": joined(reason, left_out)} if left_out else {}
        return _plain({"n_landmarks": len(pair), **errors, **noted})

    def _overlay(self, slide: str, outcomes: Outcomes) -> dict[str, Any]:
        """The picture of one pair, and how well structures agreed before."""
        view, frame, image = outcomes.view, outcomes.frame, self._block.images[slide]
        proposal, used = outcomes.proposals.get(slide), self.transforms.get(slide)
        same = Transform.identity(slide, image.size, frame.slide, frame.size)
        before = view.bring(image, same)
        shown = used or (proposal.rigid if proposal else same)
        job = self._block.job
        name = overlay_name(job.block, slide, frame.slide)
        label = f"{slide}{'' if used else ' (REFUSED)'}"
        colours = view.colours(image, shown), view.colours(frame, Transform.identity(frame.slide, frame.size))
        draw_overlay(
            job.out / "overlays" / name, view, before, view.bring(image, shown), colours,
            source=label, target=frame.slide,
        )  # fmt: skip
        value = agreement(view.structures, before.structures, compared_area(view, before)).value
        return _plain({"overlay": f"overlays/{name}", "agreement_before": value})


def _cpu_seconds() -> float:
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
        "deformation": config.deformation,
        "max_dim": config.max_dim,
        "versions": versions,
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """NumPy scalars as Python's, numbers with as many digits as they are worth."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, np.generic):
            value = value.item()
        out[key] = float(f"{value:.5g}") if isinstance(value, float) else value
    return out
