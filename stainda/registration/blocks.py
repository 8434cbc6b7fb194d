"""One block, from its slides to transforms, an assessment of each section, and the pictures that show it.

Runs in the worker process for VALIS, in this one for sections that are aligned already. A section whose placement
fails a gate gets further attempts without the others; one that fails them all is refused, with the reasons, and has no
transform: it is never taken for aligned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from stainda.registration.adjustment import Adjustment
from stainda.registration.attempts import RegistrationAttempts
from stainda.registration.block_adjustment import adjust_block
from stainda.registration.block_files import Stopwatch, write_block
from stainda.registration.chaining import chained
from stainda.registration.jobs import BlockJob
from stainda.registration.opened_block import OpenedBlock, open_block
from stainda.registration.outcomes import BlockNotes, Outcomes
from stainda.registration.piecewise import register_pieces
from stainda.registration.proposals import Proposal
from stainda.registration.results import REFUSED
from stainda.registration.sections import SectionImage, open_section, working_dim
from stainda.registration.transforms import Transform


def _tell_nobody(placed: int) -> None:
    pass


def register_block(job: BlockJob, report: Callable[[int], None] = _tell_nobody) -> list[dict[str, Any]]:
    """Register the sections of one block to its reference, and write everything about it.

    Args:
        report: called with the number of sections that are placed, the reference not counted, after every attempt.

    Returns:
        The block's rows of quality.csv, one per section other than the reference.
    """
    watch = Stopwatch()
    block = open_block(job)
    outcomes, adjustment = None, Adjustment()
    if block.frame is not None:
        method = job.config.method
        outcomes = Outcomes(
            block.frame, job.config.max_dim, gated=method != "identity", notes=block.notes,
            deformations=job.config.deformation if method == "valis" else None, nonrigid=job.config.nonrigid,
        )  # fmt: skip
        for proposal in _proposals(block, block.frame, outcomes):
            outcomes.assess(proposal)
            report(len(outcomes.transforms()) - 1)
        if method == "valis" and len(block.images) > 2:
            _lay_on_neighbours(block, outcomes, report)
        if method == "valis" and job.config.pieces == "auto":
            register_pieces(block.images, outcomes, job.config, partial(_finer, job))
        if method == "valis" and len(block.images) > 2 and job.config.adjust == "auto":
            adjustment = adjust_block(block.images, outcomes)
    return write_block(block, outcomes, adjustment, watch)


def _finer(job: BlockJob, slide: str, factor: float) -> SectionImage:
    """The working image of a section as it was scanned, ``factor`` times as fine."""
    row = next(row for row in job.sections if row.slide == slide)
    image = open_section(
        slide, row.path, row.mpp, round(factor * working_dim(job.config.max_dim, job.config.nonrigid_dim))
    )
    assert isinstance(image, SectionImage)  # it was opened before
    return image


def _lay_on_neighbours(block: OpenedBlock, outcomes: Outcomes, report: Callable[[int], None]) -> None:
    """Sections that no attempt has laid on the reference, or none surely, are laid on a neighbour that lies there."""
    notes = BlockNotes()
    placed = {slide: assessment for slide, assessment in outcomes.assessments.items() if outcomes.placed(slide)}
    for link in chained(block.images, placed, outcomes.frame, block.job.config, notes):
        slide, assessment = link.proposal.image.slide, link.assessment
        outcomes.add(link.proposal, assessment)
        report(len(outcomes.transforms()) - 1)
        if assessment.status == REFUSED:
            notes.add(slide, assessment.reason)
    for slide in notes.slides():
        if not outcomes.placed(slide):
            outcomes.notes.add(slide, notes.of(slide))


def _proposals(block: OpenedBlock, frame: SectionImage, outcomes: Outcomes) -> Iterator[Proposal]:
    """One attempt after the other, for the sections that the attempts before left refused."""
    config, images, reference = block.job.config, block.images, frame.slide
    if config.method == "identity":
        for image in [image for slide, image in images.items() if slide != reference]:
            scale = image.mpp / frame.mpp if image.mpp and frame.mpp else 1.0
            matrix = np.diag([scale, scale, 1.0])
            same = Transform.affine(image.slide, image.size, reference, frame.size, matrix)
            yield Proposal(image, same, None, None, "identity")
    elif config.method == "import":
        from stainda.registration.imports import as_shown, imported_transforms

        for slide, transform in imported_transforms(block.job.sections, config, images, reference, block.notes).items():
            nonrigid = transform if transform.forward is not None else None
            yield Proposal(
                as_shown(images[slide], transform),
                transform.rigid,
                nonrigid,
                transform.about.get("n_matches"),
                "import",
            )
    elif block.matches is not None:
        yield from RegistrationAttempts(images, reference, config, block.matches, outcomes).proposals()
