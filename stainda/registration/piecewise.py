"""Registration piece by piece, where the pieces of tissue on a glass have moved independently (cores of a biopsy).

Pieces are found in the tissue masks and paired by what they show: by their key-point matches, and those left by the
search over all turns. They are registered one by one like whole sections, with the same attempts and the same gates.
The result is kept where a piece is out of place otherwise. Between the pieces, and in those without a partner, no
point has a place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.config import RegistrationConfig
from stainda.registration import gates
from stainda.registration.affine import apply_affine
from stainda.registration.assessment import Assessment
from stainda.registration.chaining import register_pair
from stainda.registration.outcomes import BlockNotes, Outcomes
from stainda.registration.piece_detection import find_pieces, piece_images, piece_map, with_margin
from stainda.registration.pieces import Pieces
from stainda.registration.proposals import Proposal
from stainda.registration.results import REFUSED, REGISTERED, RIGID_ONLY
from stainda.registration.search import search
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import FrameView, agreement, compared_area, tissue_overlap
from stainda.registration.transforms import Transform

Registered = Callable[..., Iterable[tuple[Proposal, Assessment]]]


@dataclass(frozen=True, eq=False)
class PairedPiece:
    """Piece numbers (from 1) of the section and of the frame; ``matrix`` (3, 3) is the similarity of their matches,
    level-0 pixels, where there are enough."""

    moving: int
    fixed: int
    matrix: Array | None


def register_pieces(
    images: Mapping[str, SectionImage],
    outcomes: Outcomes,
    config: RegistrationConfig,
    read: Callable[[str, float], SectionImage],
    pair: Registered = register_pair,
) -> None:
    """Register sections of several pieces piece by piece where the whole does not fit, and note it in ``outcomes``.

    Args:
        images: working images of all usable sections.
        read: a section's working image, so many times finer: pieces are smaller than the whole.
        pair: stands in for :func:`stainda.registration.chaining.register_pair`.
    """
    frame = outcomes.frame
    fixed = find_pieces(frame)
    if not 2 <= int(fixed.max()) <= gates.MOST_PIECES:
        return
    for slide, image in images.items():
        moving = find_pieces(image)
        if slide == frame.slide or not 2 <= int(moving.max()) <= gates.MOST_PIECES:
            continue
        pairs = pair_pieces(list(piece_images(image, moving)), list(piece_images(frame, fixed)), config.max_dim)
        present = outcomes.transforms().get(slide)
        if not pairs or (present is not None and not out_of_place(outcomes.view, image, present, pairs, fixed)):
            continue
        notes = BlockNotes()
        finer = [
            min(3.0, max(part.tissue.shape) / _longest(numbers)) for part, numbers in ((image, moving), (frame, fixed))
        ]
        sections = _Section.of(read(slide, finer[0]), image), _Section.of(read(frame.slide, finer[1]), frame)
        proposals = [(paired, _first(pair(*_cut(sections, paired), config, notes))) for paired in pairs]
        _take(outcomes, image, sections, proposals, notes)


@dataclass(frozen=True, eq=False)
class _Section:
    """A section as its pieces are registered: working image, and the numbers of its pieces in the order of the coarser
    image they were paired on."""

    image: SectionImage
    pieces: Array

    @classmethod
    def of(cls, fine: SectionImage, coarse: SectionImage) -> _Section:
        """The pieces were numbered on ``coarse``."""
        numbers = with_margin(find_pieces(coarse))
        y, x = np.mgrid[: fine.tissue.shape[0], : fine.tissue.shape[1]]
        points = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
        places = np.round(apply_affine(coarse.matrix @ np.linalg.inv(fine.matrix), points)).astype(int)
        column, row = (np.clip(places[:, k], 0, numbers.shape[1 - k] - 1) for k in (0, 1))
        return cls(fine, np.where(fine.tissue, numbers[row, column].reshape(fine.tissue.shape), 0).astype(np.uint8))


def pair_pieces(moving: Sequence[SectionImage], fixed: Sequence[SectionImage], max_dim: int) -> list[PairedPiece]:
    """Which piece belongs to which: the assignment with most matches, then by the search for those left over."""
    from scipy.optimize import linear_sum_assignment

    from stainda.registration.prematch import Features, match

    first, second = ([Features(image, max_dim) for image in images] for images in (moving, fixed))
    turned = [Features(image.turned_over(), max_dim) for image in moving]
    matches = [[max((match(own, other) for own in sides), key=lambda candidate: candidate.count) for other in second]
               for sides in zip(first, turned, strict=True)]  # fmt: skip
    counts = np.array([[candidate.count for candidate in row] for row in matches])
    paired = []
    for i, j in zip(*linear_sum_assignment(-np.log1p(counts)), strict=True):
        proposal = match(first[i], second[j])
        if counts[i, j] >= gates.MIN_WAY:
            known = proposal.matrix is not None and proposal.count >= gates.SURE_MATCHES
            matrix = np.linalg.inv(fixed[j].matrix) @ proposal.matrix @ moving[i].matrix if known else None
            paired.append(PairedPiece(int(i) + 1, int(j) + 1, matrix))
    left = [i for i in range(len(moving)) if i + 1 not in {pair.moving for pair in paired}]
    free = [j for j in range(len(fixed)) if j + 1 not in {pair.fixed for pair in paired}]
    if left and free:
        peaks = np.array([[_peak(moving[i], fixed[j]) for j in free] for i in left])
        for a, b in zip(*linear_sum_assignment(-peaks), strict=True):
            if peaks[a, b] >= gates.MIN_PEAK:
                paired.append(PairedPiece(left[a] + 1, free[b] + 1, None))
    return sorted(paired, key=lambda pair: pair.fixed)


def _peak(moving: SectionImage, fixed: SectionImage) -> float:
    shift = search(moving, fixed)
    return 0.0 if shift is None else shift.peak


def out_of_place(
    view: FrameView, image: SectionImage, transform: Transform, pairs: Sequence[PairedPiece], fixed: Array
) -> bool:
    """Whether a piece lies elsewhere under the transform of the whole section: its own matches lead to another place,
    or its structures do not coincide."""
    brought = view.bring(image, transform)
    compared = compared_area(view, brought)
    numbers = _on_view(view, fixed)
    for pair in pairs:
        on_piece = (numbers == pair.fixed) & view.tissue
        if pair.matrix is not None:
            points = view.points[on_piece.ravel()][::50]
            away = np.linalg.norm(apply_affine(pair.matrix, transform.from_frame(points)) - points, axis=1)
            # a deformation of the whole may bring the middle of a piece to its place, and leave its ends
            if len(points) and np.nanpercentile(away, 90) > gates.OWN_WAY * max(on_piece.shape) * view.downsample:
                return True
        elif agreement(view.structures, brought.structures, compared & on_piece).significance < gates.MIN_SIGNIFICANCE:
            return True
    return False


def _take(
    outcomes: Outcomes,
    image: SectionImage,
    sections: tuple[_Section, _Section],
    proposals: Sequence[tuple[PairedPiece, tuple[Proposal, Assessment] | None]],
    notes: BlockNotes,
) -> None:
    """Keep the pieces that were placed, if they fit better than the whole."""
    slide, view = image.slide, outcomes.view
    placed = [(pair, result[0], result[1]) for pair, result in proposals if result is not None]
    total = int(sections[0].pieces.max()), int(sections[1].pieces.max())
    lost = "; ".join(
        f"piece {pair.moving}: {notes.of(slide) or 'no attempt placed it'}"
        for pair, result in proposals
        if result is None
    )
    if not placed:
        outcomes.notes.add(slide, f"{total[0]} pieces of tissue, none of which could be registered alone ({lost})")
        return
    transform = _joined(sections, [(pair, assessment) for pair, _, assessment in placed])
    before = outcomes.transforms().get(slide)
    fixed = _on_view(view, with_margin(find_pieces(outcomes.frame)))
    area = np.isin(fixed, [pair.fixed for pair, _, _ in placed])
    after = view.bring(image, transform)
    area &= compared_area(view, after)  # both are judged there: the whole may leave the place of a piece empty
    value = agreement(view.structures, after.structures, area)
    if before is not None:
        whole = agreement(view.structures, view.bring(image, before).structures, area).value
        if value.value < whole + gates.MIN_PIECE_GAIN:
            outcomes.notes.add(
                slide, f"its pieces one by one fit no better (agreement {value.value:.3f}, the whole {whole:.3f})"
            )
            return
    words = f"registered piece by piece: {len(placed)} of {total[0]} pieces, {total[1]} in the reference"
    measures: dict[str, Any] = {
        **placed[0][2].measures,
        "n_matches": sum(int(proposal.n_matches or 0) for _, proposal, _ in placed),
        "tissue_overlap": tissue_overlap(view, after), "agreement_nonrigid": value.value,
        "significance": value.significance, "local": value.local, "pieces": len(placed), "attempt": "piece by piece",
        "unsure": float(np.mean([float(a.measures.get("unsure", 0.0)) for _, _, a in placed])),
        "model": "; ".join(f"piece {pair.fixed}: {a.measures.get('model', '')}" for pair, _, a in placed),
    }  # fmt: skip
    bent = any(assessment.status == REGISTERED for _, _, assessment in placed)
    reason = "; ".join(part for part in (words, lost) if part)
    proposal = replace(placed[0][1], image=image, rigid=transform.rigid, nonrigid=transform if bent else None)
    outcomes.add(proposal, Assessment(REGISTERED if bent else RIGID_ONLY, reason, transform, measures))


def _joined(sections: tuple[_Section, _Section], placed: Sequence[tuple[PairedPiece, Assessment]]) -> Transform:
    """One transform of the pieces that were placed; the others become pieces without a partner."""
    transforms = [assessment.transform for _, assessment in placed]
    known = [transform for transform in transforms if transform is not None]
    maps = []
    for section, numbers in zip(
        sections, ([pair.moving for pair, _ in placed], [pair.fixed for pair, _ in placed]), strict=True
    ):
        new = np.full(int(section.pieces.max()) + 1, len(placed) + 1, np.uint8)
        new[0] = 0
        new[numbers] = np.arange(1, len(placed) + 1)
        maps.append(piece_map(section.image, new[with_margin(section.pieces)]))
    areas = [int((sections[1].pieces == pair.fixed).sum()) for pair, _ in placed]
    largest = known[int(np.argmax(areas))]
    return replace(largest.rigid, pieces=Pieces(maps[0], maps[1], tuple(known)))


def _first(results: Iterable[tuple[Proposal, Assessment]]) -> tuple[Proposal, Assessment] | None:
    """The first that passes its gates."""
    return next((result for result in results if result[1].status != REFUSED), None)


def _cut(sections: tuple[_Section, _Section], pair: PairedPiece) -> tuple[SectionImage, SectionImage]:
    images = [list(piece_images(section.image, section.pieces)) for section in sections]
    return images[0][pair.moving - 1], images[1][pair.fixed - 1]


def _on_view(view: FrameView, numbers: Array) -> Array:
    """Numbers of the reference's working pixels, on the view (h, w)."""
    shape = view.density.shape
    rows, columns = (np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(int)
                     for n, m in zip(shape, numbers.shape, strict=True))  # fmt: skip
    return np.asarray(numbers[np.ix_(rows, columns)])


def _longest(numbers: Array) -> int:
    """The longest side of a piece, pixels."""
    boxes = [np.argwhere(numbers == k) for k in range(1, int(numbers.max()) + 1)]
    return max(int(np.ptp(box, axis=0).max()) + 1 for box in boxes)
