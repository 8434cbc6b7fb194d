"""Adjustment of a registered block: the placed sections are compared with their neighbours and moved together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from stainda.arrays import Array
from stainda.registration import gates
from stainda.registration.adjustment import Adjustment, adjust
from stainda.registration.affine import apply_affine
from stainda.registration.outcomes import Outcomes
from stainda.registration.pair_evidence import PairEvidence, PlacedSection, compare_pair
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import FrameView, compared_area
from stainda.registration.transforms import Transform

REACH = 2  # placed sections: comparisons three apart added nothing to those (2.8 µm in 18 sections with and without)
FARTHER = 3  # where some of these fail, two stains having nothing in common
LEAST_SECTIONS = 3  # of two sections nothing but the one comparison is known


def adjust_block(images: Mapping[str, SectionImage], outcomes: Outcomes) -> Adjustment:
    """Compare the placed sections of a block and correct their transforms in ``outcomes``.

    Args:
        images: working images of all usable sections in the order of the cut.
    """
    transforms = outcomes.transforms()
    # pieces that have moved on their own share no correction
    placed = {slide: image for slide, image in images.items() if slide in transforms and not transforms[slide].torn}
    if len(placed) < LEAST_SECTIONS:
        return Adjustment()
    view, reference = outcomes.view, outcomes.frame.slide
    evidence = list(compared(view, placed, transforms))
    adjustment = adjust(evidence, reference, view.density.shape)
    for slide, matrix in adjustment.corrections.items():
        outcomes.correct(slide, corrected(view, transforms[slide], matrix), {"adjusted_px": moved(view, matrix)})
    for slide, reason in adjustment.kept.items():
        outcomes.notes.add(slide, f"not adjusted to its neighbours: {reason}")
    for cycle in adjustment.cycles:
        if cycle.contradicts:
            distance = cycle.distance * view.downsample
            for slide, other in ((cycle.moving, cycle.fixed), (cycle.fixed, cycle.moving)):
                outcomes.notes.add(
                    slide,
                    f"compared with {other} directly it lies {distance:.0f} px off, which the others contradict",
                )
    return adjustment


def compared(
    view: FrameView, images: Mapping[str, SectionImage], transforms: Mapping[str, Transform]
) -> Iterator[PairEvidence]:
    """Comparisons of placed sections with those up to :data:`REACH` before them, where structures coincide, and with
    those up to :data:`FARTHER` before them where one of the comparisons in between fails."""
    near: list[PlacedSection] = []
    failed: list[set[str]] = []
    for slide, image in images.items():
        brought = view.bring(image, transforms[slide])
        section = PlacedSection(slide, brought.density, compared_area(view, brought))
        for apart, other in enumerate(reversed(near), 1):
            between = {other.slide, *(neighbour.slide for neighbour in near[len(near) - apart :]), slide}
            if apart > REACH and not any(pair <= between for pair in failed):
                continue
            pair = compare_pair(other, section)
            if pair is not None and pair.significance >= gates.MIN_SIGNIFICANCE_FEW:
                yield pair
            else:
                failed.append({other.slide, slide})
        near = [*near, section][-FARTHER:]


def corrected(view: FrameView, transform: Transform, matrix: Array) -> Transform:
    """A transform after a correction (3, 3) in view pixels: at ``u`` the section shows what it showed at
    ``matrix @ u``."""
    pixels = view.matrix
    back = pixels @ np.linalg.inv(matrix) @ np.linalg.inv(pixels)
    return replace(transform, post=back @ transform.post)


def moved(view: FrameView, matrix: Array) -> float:
    """How far a correction moves the tissue of the reference, root mean square, level-0 pixels."""
    rows, columns = np.nonzero(view.tissue)
    points = np.stack([columns, rows], axis=1).astype(float)
    steps = apply_affine(matrix, points) - points
    return float(np.sqrt((steps**2).sum(axis=1).mean())) * view.downsample
