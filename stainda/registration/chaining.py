"""Chained registration: a section that does not fit the reference is registered to a placed neighbour.

In a long block the last section may share next to nothing with the reference, and still nearly everything with its
neighbour. So a section that every attempt with the reference left refused is registered with a placed one near it,
as a block of two with all attempts and all gates, and where that passes both transforms are composed. What the gates
have measured is then the fit of the two neighbours; errors of the steps add up on the way to the reference.

Two stains may have so little in common that neighbours pass the gates and are still off by several micrometres, and
all that is laid on them with them. So links are chosen by the significance of their agreement: the maximum spanning
tree (Prim 1957) of the sections, of which a certain link (:data:`CERTAIN`) is taken as soon as it is known, and another
only when every other way to go on has been tried. A section whose own link with the reference is not certain is laid
anew where a neighbour gives a better one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
from stainda.registration.results import REFUSED, REGISTERED, RIGID_ONLY
from stainda.registration.sections import SectionImage, rigid_downsample
from stainda.registration.transforms import Transform, from_pull

REACH = 2  # usable sections: a damaged one between two others is stepped over
FARTHER = 3  # where there is a link within that, and none that is certain
CERTAIN = 30.0  # standard deviations: of 49 links of a synthetic block, 33 above it are off by 0.9 to 3.7 µm in the
# median, 16 below it by 1.4 to 21
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
    placed: Mapping[str, Assessment],
    frame: SectionImage,
    config: RegistrationConfig,
    notes: BlockNotes,
    pair: Callable[..., Iterable[tuple[Proposal, Assessment]]] | None = None,
) -> Iterator[Link]:
    """Lay on neighbours what is left, and what is placed where a neighbour gives a link with more certain agreement.

    Args:
        images: working images of all usable sections in the order of the cut.
        placed: assessments of the sections that are placed on the reference already.
        notes: what happened on the way; added to.
        pair: stands in for :func:`register_pair`.

    Yields:
        Each link that was tried. The last of a section that was not refused is the one that holds; one that is less
        certain than what the section has is refused.
    """
    tree = _Tree(list(images), frame.slide, placed)
    transforms = {slide: assessed.transform for slide, assessed in placed.items() if assessed.transform is not None}
    transforms[frame.slide] = Transform.identity(frame.slide, frame.size)
    while step := tree.next_pair():
        slide, neighbour = step
        mine, theirs = _as_scanned(images[slide]), _as_scanned(images[neighbour])
        for proposal, assessment in (pair or register_pair)(mine, theirs, config, notes):
            link = _linked(neighbour, transforms[neighbour], frame, proposal, assessment, config.max_dim)
            if link.assessment.transform is not None and (reason := tree.refuse_weaker(slide, link.assessment)):
                yield replace(link, assessment=replace(link.assessment, status=REFUSED, reason=reason, transform=None))
                break
            yield link
            if link.assessment.transform is not None:
                transforms[slide] = link.assessment.transform
                tree.lay(slide, link.assessment)
                break


class _Tree:
    """The links chosen so far.

    Args:
        order: sections in the order of the cut. placed: those laid on the reference.
    """

    def __init__(self, order: list[str], reference: str, placed: Mapping[str, Assessment]) -> None:
        self._place = {slide: place for place, slide in enumerate(order)}
        self._reference = reference
        self._direct = set(placed)
        self._links: dict[str, Assessment] = dict(placed)
        self._settled = {reference, *(slide for slide, link in placed.items() if significance(link) >= CERTAIN)}
        self._tried = {(slide, reference) for slide in order}  # all that lies near the reference was tried with it

    def next_pair(self) -> tuple[str, str] | None:
        """A section that is not settled and a settled one that lie nearest to each other and were not tried yet.
        Where there is none, the most certain link of the others is settled first."""
        while not (pairs := self._untried(self._place, REACH) or self._untried(self._links, FARTHER)):
            waiting = [slide for slide in self._links if slide not in self._settled]
            if not waiting:
                return None
            self._settled.add(max(waiting, key=lambda slide: significance(self._links[slide])))
        pair = min(pairs)[2:]
        self._tried.add(pair)
        return pair

    def _untried(self, slides: Iterable[str], reach: int) -> list[tuple[int, int, str, str]]:
        """(sections apart, place, section of these that is not settled, settled one) within reach."""
        return [
            (apart, self._place[slide], slide, neighbour)
            for slide in slides
            if slide not in self._settled
            for neighbour in self._settled
            if (apart := self._apart(slide, neighbour)) <= reach
            and (slide not in self._direct or apart < self._apart(slide, self._reference))
            and (slide, neighbour) not in self._tried
        ]

    def _apart(self, slide: str, other: str) -> int:
        return abs(self._place[slide] - self._place[other])

    def refuse_weaker(self, slide: str, link: Assessment) -> str | None:
        """Why a link is not to replace what the section has, or ``None``."""
        if (before := self._links.get(slide)) is None:
            return None
        if before.status == REGISTERED and link.status != REGISTERED:
            return f"{link.reason}: rigid only, and it is placed with a deformation already"
        if significance(link) > significance(before):
            return None
        return (
            f"{link.reason}: agreement of {significance(link):.1f} standard deviations, less certain than its place "
            f"({significance(before):.1f})"
        )

    def lay(self, slide: str, link: Assessment) -> None:
        """A link that holds now."""
        self._links[slide] = link
        if significance(link) >= CERTAIN:
            self._settled.add(slide)


def significance(link: Assessment) -> float:
    """Of the agreement of structures where a section is placed, standard deviations above chance."""
    return float(link.measures.get("significance") or 0.0)


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
