"""Chained registration: a section that does not fit the reference is registered to a placed neighbour.

In a long block the last section may share next to nothing with the reference, and still nearly everything with its
neighbour. So a section that every attempt with the reference left refused is registered with the nearest placed one,
as a block of two with all attempts and all gates, and where that passes both transforms are composed. What the gates
have measured is then the fit of the two neighbours; errors of the steps add up on the way to the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stainda.arrays import Array
from stainda.config import RegistrationConfig
from stainda.registration import gates
from stainda.registration.affine import apply_affine
from stainda.registration.assessment import Assessment
from stainda.registration.attempts import RegistrationAttempts
from stainda.registration.outcomes import BlockNotes, Outcomes
from stainda.registration.proposals import Proposal
from stainda.registration.results import RIGID_ONLY
from stainda.registration.sections import SectionImage, rigid_downsample
from stainda.registration.transforms import Transform, from_pull

REACH = 2  # usable sections: a damaged one between two others is stepped over
LATTICE = 4.0  # working pixels between the points at which a composition is computed, as VALIS's fields are thinned


@dataclass(frozen=True, eq=False)
class Link:
    """A section laid on a placed neighbour. ``assessment`` is that of the pair; ``proposal`` and, unless refused,
    ``assessment.transform`` lead to the frame of the block."""

    neighbour: str
    proposal: Proposal
    assessment: Assessment


def chained(
    images: Mapping[str, SectionImage],
    placed: Mapping[str, Transform],
    frame: SectionImage,
    config: RegistrationConfig,
    notes: BlockNotes,
    pair: Callable[..., Iterable[tuple[Proposal, Assessment]]] | None = None,
) -> Iterator[Link]:
    """Lay what is left on neighbours, nearest to what is placed first.

    Args:
        images: working images of all usable sections in the order of the cut.
        placed: transforms of those that are placed, the reference's identity included.
        notes: what happened on the way; added to.
        pair: stands in for :func:`register_pair`.
    """
    order = list(images)
    transforms = dict(placed)
    tried = {(slide, frame.slide) for slide in order}  # what lies so near to the reference was tried with it before
    while step := _next(order, transforms, tried):
        slide, neighbour = step
        tried.add(step)
        mine, theirs = _as_scanned(images[slide]), _as_scanned(images[neighbour])
        for proposal, assessment in (pair or register_pair)(mine, theirs, config, notes):
            link = _linked(neighbour, transforms[neighbour], frame, proposal, assessment, config.max_dim)
            yield link
            if link.assessment.transform is not None:
                transforms[slide] = link.assessment.transform
                break


def register_pair(
    image: SectionImage, neighbour: SectionImage, config: RegistrationConfig, notes: BlockNotes
) -> Iterator[tuple[Proposal, Assessment]]:
    """The attempts for one section with a neighbour as the reference, each with what the gates make of it."""
    from stainda.registration.prematch import Prematch

    images = {image.slide: image, neighbour.slide: neighbour}
    outcomes = Outcomes(
        neighbour, config.max_dim, notes=notes, deformations=config.deformation, nonrigid=config.nonrigid
    )
    attempts = RegistrationAttempts(images, neighbour.slide, config, Prematch(images, config.max_dim), outcomes)
    for proposal in attempts.proposals():
        yield proposal, outcomes.assess(proposal)


def _next(
    order: Sequence[str], transforms: Mapping[str, Transform], tried: set[tuple[str, str]]
) -> tuple[str, str] | None:
    """The pair of a section that is left and a placed one that lie nearest to each other and were not tried yet."""
    steps = [
        (abs(other_place - place), place, slide, neighbour)
        for place, slide in enumerate(order)
        if slide not in transforms
        for other_place, neighbour in enumerate(order)
        if neighbour in transforms and abs(other_place - place) <= REACH and (slide, neighbour) not in tried
    ]
    return min(steps)[2:] if steps else None


def _as_scanned(image: SectionImage) -> SectionImage:
    return image.turned_over() if image.mirrored else image


def _linked(
    neighbour: str, onwards: Transform, frame: SectionImage, proposal: Proposal, assessment: Assessment, max_dim: int
) -> Link:
    name = f"by way of {neighbour}: {proposal.attempt}"
    measures = {**assessment.measures, "attempt": name}
    rigid = _composed(proposal.rigid, onwards.rigid, frame)
    if assessment.transform is None:
        reason = f"with its neighbour {neighbour}: {assessment.reason}"
        return Link(neighbour, replace(proposal, rigid=rigid, nonrigid=None, attempt=name),
                    replace(assessment, reason=reason, measures=measures))  # fmt: skip
    whole = _composed(assessment.transform, onwards, frame)
    reason = f"laid on its neighbour {neighbour}" + (f"; {assessment.reason}" if assessment.reason else "")
    status, transform = assessment.status, whole
    if whole.forward is not None:
        points = whole.from_frame(_on_tissue(frame))
        trip = float(np.percentile(whole.round_trip(points), 99)) / rigid_downsample(proposal.image, max_dim)
        if trip > gates.MAX_ROUND_TRIP:
            status, transform = RIGID_ONLY, rigid
            reason += f"; the deformations cannot be joined (forward and back {trip:.2f} px)"
    bent = whole if whole.forward is not None else None
    return Link(neighbour, replace(proposal, rigid=rigid, nonrigid=bent, attempt=name),
                Assessment(status, reason, transform, measures))  # fmt: skip


def _composed(first: Transform, onwards: Transform, frame: SectionImage) -> Transform:
    """From the section through its neighbour to the frame of the block."""
    if first.forward is None and onwards.forward is None:
        matrix = onwards.matrix @ first.matrix
        return Transform.affine(first.slide, first.size, onwards.frame, onwards.frame_size, matrix)
    whole = from_pull(
        first.slide, onwards.frame, first.size, onwards.frame_size,
        lambda points: first.from_frame(onwards.from_frame(points)), LATTICE * frame.downsample,
    )  # fmt: skip
    if first.unsure is None and onwards.unsure is None:
        return whole
    assert whole.backward is not None
    rows, columns = np.mgrid[: whole.backward.shape[1], : whole.backward.shape[2]]
    points = apply_affine(whole.post, np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float))
    unsure = np.maximum(onwards.doubt(points), first.doubt(onwards.from_frame(points)))
    return replace(whole, unsure=unsure.reshape(rows.shape).astype(np.float32))


def _on_tissue(frame: SectionImage, most: int = 4000) -> Array:
    """Frame points (n, 2) on the tissue of the reference, evenly spread."""
    rows, columns = np.nonzero(frame.tissue)
    step = max(1, len(rows) // most)
    return apply_affine(np.linalg.inv(frame.matrix), np.stack([columns, rows], axis=1)[::step].astype(float))
