"""State of the sections of a block during registration: attempts, assessments and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from stainda.registration.assessment import Assessment, assess_proposal
from stainda.registration.piece_detection import has_pieces
from stainda.registration.proposals import Proposal
from stainda.registration.refinement import Deformations
from stainda.registration.results import REFUSED
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import FrameView
from stainda.registration.transforms import Transform


class BlockNotes:
    """Remarks on sections, by slide."""

    def __init__(self) -> None:
        self._remarks: dict[str, str] = {}

    def add(self, slide: str, remark: str) -> None:
        """After what is there; a remark that is all that is there is not repeated."""
        self._remarks[slide] = joined(self.of(slide), remark)

    def of(self, slide: str) -> str:
        """All remarks on a section, or an empty text."""
        return self._remarks.get(slide, "")

    def slides(self) -> list[str]:
        """Sections with a remark, in the order of their first."""
        return list(self._remarks)


class Outcomes:
    """Attempts on the sections of a block, each assessed as it comes in.

    Args:
        frame: the reference's working image.
        max_dim: longest side of the image of the rigid step, whose pixels the forward-backward gate counts in.
        gated: ``False`` for sections said to be aligned, which are only measured.
        notes: what happened on the way; added to.
        deformations, nonrigid: how placements are improved, see ``assessment.assess_proposal``.

    Attributes:
        view: the reference, as sections are compared with it.
        proposals, assessments: by slide, the last that was not refused, else the first with the reference.
        attempts: rows with the outcome of each, in order.
    """

    def __init__(
        self,
        frame: SectionImage,
        max_dim: int,
        *,
        gated: bool = True,
        notes: BlockNotes | None = None,
        deformations: Deformations | None = None,
        nonrigid: bool = True,
    ) -> None:
        self.frame, self.view = frame, FrameView.of(frame)
        self._max_dim, self._gated, self._deformations, self._nonrigid = max_dim, gated, deformations, nonrigid
        self.notes = BlockNotes() if notes is None else notes
        self.proposals: dict[str, Proposal] = {}
        self.assessments: dict[str, Assessment] = {}
        self.attempts: list[dict[str, Any]] = []

    def placed(self, slide: str) -> bool:
        """Whether a section has passed the gates already."""
        return slide in self.assessments and self.assessments[slide].status != REFUSED

    def transforms(self) -> dict[str, Transform]:
        """Of the sections that are placed, and the identity of the reference."""
        transforms = {self.frame.slide: Transform.identity(self.frame.slide, self.frame.size)}
        return transforms | {
            slide: assessed.transform for slide, assessed in self.assessments.items() if assessed.transform is not None
        }

    def would_refuse(self, proposal: Proposal) -> bool:
        """Whether the gates refuse a proposal without its deformation."""
        assessment = assess_proposal(
            self.view, self.frame, proposal, self._max_dim, rigid_only=True, deformations=self._deformations,
            nonrigid=self._nonrigid, stretched=self._in_one(proposal.image),
        )  # fmt: skip
        return assessment.status == REFUSED

    def assess(self, proposal: Proposal) -> Assessment:
        """Assess a proposal and store the result."""
        assessment = assess_proposal(
            self.view, self.frame, proposal, self._max_dim, gated=self._gated, deformations=self._deformations,
            nonrigid=self._nonrigid, stretched=self._in_one(proposal.image),
        )  # fmt: skip
        if proposal.image.slide not in self.assessments:
            self.proposals[proposal.image.slide], self.assessments[proposal.image.slide] = proposal, assessment
        self.add(proposal, assessment)
        return assessment

    def _in_one(self, image: SectionImage) -> bool:
        """Whether a section or the reference is one piece of tissue. Several that have moved on their own look like a
        stretched whole, and are registered one by one (``piecewise``)."""
        return not (self._of_pieces and has_pieces(image))

    @cached_property
    def _of_pieces(self) -> bool:
        return has_pieces(self.frame)

    def correct(self, slide: str, transform: Transform, measures: Mapping[str, Any]) -> None:
        """Replace the transform of a placed section; ``measures`` are added to its own."""
        before = self.assessments[slide]
        self.assessments[slide] = replace(before, transform=transform, measures={**before.measures, **measures})

    def add(self, proposal: Proposal, assessment: Assessment) -> None:
        """An attempt that was assessed elsewhere; kept where it was not refused."""
        slide = proposal.image.slide
        self.attempts.append(
            {"slide": slide, "outcome": assessment.status, "reason": assessment.reason, **assessment.measures}
        )
        if assessment.status != REFUSED:
            self.proposals[slide], self.assessments[slide] = proposal, assessment


def joined(*parts: str) -> str:
    """Parts that say something, each once."""
    return "; ".join(dict.fromkeys(part for part in parts if part))
