"""Exhaustive search for the rotation of a section, mirrored or not, where key points do not match.

For each turn the directions of the optical-density gradients (see ``similarity.directions``) are correlated over all
shifts at once by Fourier transform, as in normalised gradient fields (Haber and Modersitzki, MICCAI 2006) and
orientation correlation (Fitch et al., BMVC 2002). Where no turn stands out, the best ones are deformed and compared
again. The result is a proposal only: VALIS refines it, the gates judge it.
Runs in the worker process (it needs OpenCV, which comes with VALIS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft, ndimage

from stainda.arrays import Array
from stainda.registration import gates
from stainda.registration.deformation import LEVELS
from stainda.registration.held_back import FOLDS
from stainda.registration.refinement import SectionOnView, unseen_agreement
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import FrameView, directions, optical_density
from stainda.registration.transforms import Transform

DIM = 128  # longest side of the reference in the search, pixels
STEP = 5.0  # degrees between two turns; half of it moves the border of the tissue by 2 to 3 pixels
SCALE = 2.0  # standard deviation of the gradient filter, pixels: as wide as what half a step leaves unaligned
BORDER = 3  # pixels of tissue left out along its outline, which says nothing about what is inside
MOST_TURNS = 40  # of 144 that are deformed: right ones of stretched or halved sections stood at place 28 at worst
PROMISING = 3.0  # standard deviations, of half the parts: wrong turns have 2 on average
VIEW = 256  # longest side of the view they are compared on
COARSEST = LEVELS[:2]


@dataclass(frozen=True, eq=False)
class TriedRotation:
    """One rotation with its best shift.

    Attributes:
        image: the section as it is, or turned over. mirrored: it was turned over.
        matrix: (3, 3) working pixels of ``image`` to working pixels of the reference.
        score: agreement of structures, over all of the overlap; comparable between turns.
    """

    image: SectionImage
    mirrored: bool
    matrix: Array
    degrees: float
    score: float

    def placement(self, frame: SectionImage) -> Transform:
        """The transform to the reference that it amounts to."""
        matrix = np.linalg.inv(frame.matrix) @ self.matrix @ self.image.matrix
        return Transform.affine(self.image.slide, self.image.size, frame.slide, frame.size, matrix)


@dataclass(frozen=True, eq=False)
class SearchResult:
    """All turns, best first, and how far the best stands above those that are not alike, in standard deviations."""

    turns: tuple[TriedRotation, ...]
    peak: float

    @property
    def best(self) -> TriedRotation:
        return self.turns[0]


def search(image: SectionImage, frame: SectionImage) -> SearchResult | None:
    """The most likely place of a section on the reference; ``None`` where either shows too little.

    The scale is that of the two mpp, or, where one is unknown, the one that makes the tissues equally large.
    """
    step = max(1.0, max(frame.pixels.shape[:2]) / DIM)
    if image.mpp and frame.mpp:
        scale = image.downsample * image.mpp / (frame.downsample * frame.mpp)
    else:
        scale = float(np.sqrt(frame.tissue.sum() / max(1, image.tissue.sum())))
    fixed = _Fixed(frame, step, _side(frame, step) + _side(image, step / scale))
    turns: list[TriedRotation] = []
    for mirrored in (False, True):
        moving = _Moving(image.turned_over() if mirrored else image, step / scale)
        for degrees in np.arange(0, 360, STEP):
            best_at_angle = fixed.best_shift(moving, degrees)
            if best_at_angle is not None:
                score, matrix = best_at_angle
                turns.append(TriedRotation(moving.image, mirrored, matrix, float(degrees), score))
    turns.sort(key=lambda turn: -turn.score)
    apart = [turn.score for turn in turns if not _alike(turn, turns[0])]
    if len(apart) < 8:
        return None
    peak = (turns[0].score - float(np.mean(apart))) / max(float(np.std(apart)), 1e-6)
    return SearchResult(tuple(turns), peak)


def search_stretched(turns: Sequence[TriedRotation], frame: SectionImage) -> tuple[TriedRotation, float] | None:
    """Of the best turns the one whose structures agree best after a deformation, where that has not seen them (see
    ``refinement.unseen_agreement``), and by how many standard deviations; for tissue so stretched that the right turn
    does not stand out by itself. On a small view, with the coarse levels of the deformation, and to the end only where
    the first half of the parts is promising: some 0.4 CPU s a turn."""
    view = FrameView.of(frame, VIEW)
    best: tuple[TriedRotation, float] | None = None
    for turn in turns[:MOST_TURNS]:
        place = SectionOnView.of(view, turn.image, turn.placement(frame))
        first = unseen_agreement(place, COARSEST, range(FOLDS // 2)).significance
        if first < PROMISING:
            continue
        both = (first + unseen_agreement(place, COARSEST, range(FOLDS // 2, FOLDS)).significance) / np.sqrt(2)
        if best is None or both > best[1]:
            best = turn, float(both)
    return best


def _alike(turn: TriedRotation, other: TriedRotation) -> bool:
    return turn.mirrored == other.mirrored and abs((turn.degrees - other.degrees + 180) % 360 - 180) <= 3 * STEP


def _side(image: SectionImage, step: float) -> int:
    rows, columns = image.tissue.shape
    return int(np.ceil(np.hypot(rows, columns) / step)) + 2


class _Moving:
    """A section at coarse scale: ``step`` working pixels per pixel of the search."""

    def __init__(self, image: SectionImage, step: float) -> None:
        import cv2

        self.image, self.step = image, step
        density = optical_density(image.pixels)
        self.density = cv2.GaussianBlur(density, (0, 0), step / 2) if step > 1 else density
        self.tissue = image.tissue.astype(np.uint8)
        self.side = _side(image, step)

    def turned(self, degrees: float) -> tuple[Array, Array, Array]:
        """Density and tissue (side, side) turned about the middle, and the matrix (3, 3) from working pixels there."""
        import cv2

        turn, middle = np.radians(degrees), (np.array(self.image.pixels.shape[1::-1]) - 1) / 2
        linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / self.step
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = (self.side - 1) / 2 - linear @ middle
        size = self.side, self.side
        density = cv2.warpAffine(self.density, matrix[:2], size, flags=cv2.INTER_LINEAR)
        tissue = cv2.warpAffine(self.tissue, matrix[:2], size, flags=cv2.INTER_NEAREST)
        return density, np.asarray(tissue, np.uint8) > 0, matrix


class _Fixed:
    """The reference, transformed once."""

    def __init__(self, frame: SectionImage, step: float, room: int) -> None:
        moving = _Moving(frame, step)
        density, tissue, self.matrix = moving.turned(0.0)
        self.shape = (fft.next_fast_len(room, real=True),) * 2
        self.field, inner = _structures(density, tissue)
        self.area = int(inner.sum())
        self.parts = [fft.rfft2(part, self.shape) for part in (*self.field, inner.astype(np.float32))]

    def best_shift(self, moving: _Moving, degrees: float) -> tuple[float, Array] | None:
        """Score and matrix (3, 3) from the section's working pixels to the reference's, for one turn."""
        density, tissue, placed = moving.turned(degrees)
        field, inner = _structures(density, tissue)
        smaller = min(self.area, int(inner.sum()))
        if smaller < 64:
            return None
        parts = [np.conj(fft.rfft2(part, self.shape)) for part in (*field, inner.astype(np.float32))]
        agreement = fft.irfft2(self.parts[0] * parts[0] + self.parts[1] * parts[1], self.shape)
        overlap = fft.irfft2(self.parts[2] * parts[2], self.shape)
        allowed = overlap >= gates.MIN_TISSUE_OVERLAP * smaller
        score = np.where(allowed, agreement / np.sqrt(np.maximum(overlap, 1)), -np.inf)
        row, column = np.unravel_index(int(np.argmax(score)), score.shape)
        best = float(score[row, column])
        shift = np.eye(3)
        shift[:2, 2] = [_signed(column, self.shape[1]), _signed(row, self.shape[0])]
        return (best, np.linalg.inv(self.matrix) @ shift @ placed) if np.isfinite(best) else None


def _signed(index: int | np.integer[Any], length: int) -> int:
    return int(index) - length if index > length // 2 else int(index)


def _structures(density: Array, tissue: Array) -> tuple[Array, Array]:
    """Gradient directions (2, h, w), zero outside, and the inner tissue bool (h, w) they are compared in."""
    inner = ndimage.binary_erosion(tissue, iterations=BORDER)
    return directions(density, inner, SCALE) * inner, inner
