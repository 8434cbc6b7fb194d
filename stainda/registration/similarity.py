"""Similarity of the structures of two registered sections, measured without VALIS and without landmarks.

Stains differ in what they colour, not in where lumens, borders and tissue are. So the images are compared by the
direction of their optical-density gradients (normalised gradient fields: Haber and Modersitzki, MICCAI 2006), here
signed, because more tissue is darker in every absorbing stain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.registration.affine import apply_affine
from stainda.registration.sections import SectionImage
from stainda.registration.transforms import Between, Transform

VIEW_DIM = 512  # longest side of the images compared, pixels
SCALES = (1.5, 3.0)  # standard deviations of the gradient filter, view pixels: cells' neighbourhoods, and tubules
COARSE = 6.0  # the same, for judging a placement: finer structures do not survive the deformation a rigid one leaves
BORDER = 6  # view pixels: the reach of the gradient filter from the outer border of the tissue
TURNS = 12  # directions of the shifts that give the level of chance
PARTS = 8  # per side: a part of a section is then some 60 view pixels wide, enough structures to tell chance from fit
LEAST_PART = 0.4  # of the fullest part: parts with less tissue say little


@dataclass(frozen=True, eq=False)
class FrameView:
    """The reference section as a small image, onto which the others are brought.

    Attributes:
        density: float32 (h, w) optical density. tissue: bool (h, w).
        points: float64 (h * w, 2), the frame coordinates of the pixels.
        downsample: level-0 pixels of the reference per view pixel.
    """

    density: Array
    tissue: Array
    points: Array
    downsample: float

    @classmethod
    def of(cls, image: SectionImage, max_dim: int = VIEW_DIM) -> FrameView:
        rows, columns = image.pixels.shape[:2]
        step = max(1.0, max(rows, columns) / max_dim)
        y, x = np.mgrid[: int(rows / step), : int(columns / step)]
        working = np.stack([x.ravel(), y.ravel()], 1) * step + (step - 1) / 2
        points = apply_affine(np.linalg.inv(image.matrix), working)
        density, tissue, _ = _sampled(image, working, step, x.shape)
        return cls(density, tissue, points, step * image.downsample)

    @cached_property
    def structures(self) -> DensityGradients:
        return DensityGradients(self.density)

    @property
    def matrix(self) -> Array:
        """The matrix (3, 3) from view pixels to level-0 pixels of the reference."""
        corner, right, below = self.points[0], self.points[1], self.points[self.density.shape[1]]
        matrix = np.eye(3)
        matrix[:2] = np.stack([right - corner, below - corner, corner], axis=1)
        return matrix

    def bring(self, image: SectionImage, transform: Transform | Between) -> Brought:
        """Another section as it lies on this view under ``transform``."""
        working = apply_affine(image.matrix, transform.from_frame(self.points))
        step = self.downsample / image.downsample * np.sqrt(abs(np.linalg.det(transform.matrix[:2, :2]))) ** -1
        return Brought(*_sampled(image, working, max(1.0, float(step)), self.density.shape))

    def colours(self, image: SectionImage, transform: Transform | Between) -> Array:
        """The pixels of a section as they lie on this view: uint8 (h, w, 3), white outside the section."""
        working = apply_affine(image.matrix, transform.from_frame(self.points))
        shape = self.density.shape
        parts = [
            ndimage.map_coordinates(part, (working[:, 1], working[:, 0]), order=1, cval=255).reshape(shape)
            for part in image.pixels.transpose(2, 0, 1)
        ]
        return np.stack(parts, axis=2)


@dataclass(frozen=True, eq=False)
class Brought:
    """A section brought onto a view: density float32 (h, w), tissue bool (h, w), inside bool (h, w) the slide."""

    density: Array
    tissue: Array
    inside: Array

    @cached_property
    def structures(self) -> DensityGradients:
        return DensityGradients(self.density)


def _sampled(image: SectionImage, working: Array, step: float, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    density = optical_density(image.pixels)
    if step > 1:
        density = ndimage.gaussian_filter(density, step / 2)
    working = np.where(np.isfinite(working), working, -1e6)  # between pieces of tissue nothing is shown
    where = working[:, 1], working[:, 0]
    rows, columns = image.pixels.shape[:2]
    inside = (where[0] >= -0.5) & (where[0] <= rows - 0.5) & (where[1] >= -0.5) & (where[1] <= columns - 0.5)
    values = ndimage.map_coordinates(density, where, order=1, mode="nearest") * inside
    tissue = ndimage.map_coordinates(image.tissue.astype(np.float32), where, order=0, mode="constant") > 0.5
    return values.reshape(shape).astype(np.float32), tissue.reshape(shape), inside.reshape(shape)


def optical_density(pixels: Array) -> Array:
    """Mean optical density float32 (h, w) of an image uint8 (h, w, 3), white being 0."""
    return -np.log10(np.clip(pixels.astype(np.float32).mean(axis=2), 1, None) / 255)


class DensityGradients:
    """Gradient directions of a density image float (h, w); its gradients are computed once for each scale."""

    def __init__(self, density: Array) -> None:
        self.density = density
        self._gradients: dict[float, tuple[Array, Array]] = {}

    def directions(self, where: Array, scale: float) -> Array:
        """See :func:`directions`."""
        gradient, length = self._gradient(scale)
        typical = float(np.median(length[where])) if where.any() else 0.0
        return np.asarray((gradient / np.hypot(length, max(typical, 1e-6))).astype(np.float32))

    def _gradient(self, scale: float) -> tuple[Array, Array]:
        """The gradient (2, h, w) and its length (h, w)."""
        if scale not in self._gradients:
            gradient = np.stack([ndimage.gaussian_filter(self.density, scale, order=o) for o in ((0, 1), (1, 0))])
            self._gradients[scale] = gradient, np.hypot(*gradient)
        return self._gradients[scale]


def directions(density: Array, where: Array, scale: float) -> Array:
    """Gradient over its length, float32 (2, h, w); a gradient of median length (inside ``where``) has length 0.7, so
    that noise in flat regions counts little."""
    return DensityGradients(density).directions(where, scale)


@dataclass(frozen=True)
class StructureAgreement:
    """Agreement of the structures of two sections.

    Attributes:
        value: the mean agreement, -1..1.
        significance: how far it stands above chance, in standard deviations: the mean of the fine scales or the coarse
            one, whichever is higher. ``value`` is of the fine scales only.
        local: share of the tissue's parts (the view is cut into ``PARTS`` x ``PARTS``) in which no more than a tenth of
            the shifts of chance agree better; a tenth by chance, near 1 where all of the section is in place.
    """

    value: float
    significance: float
    local: float = 0.0


def agreement(first: DensityGradients, second: DensityGradients, where: Array) -> StructureAgreement:
    """Agreement of two images inside ``where``, bool (h, w).

    Chance is what the same images give when one is shifted by 6 % and by 12 % of the view in 12 directions each: a
    right registration is a peak that such shifts lose, a wrong one is not. Measured on rat_kidney: right 12 to 18 after
    non-rigid, 8 after rigid; mirrored, turned and shifted by 7 % or more: below 2.7.
    """
    if where.sum() < 64:
        return StructureAgreement(0.0, 0.0)
    fields = [(first.directions(where, scale), second.directions(where, scale)) for scale in (*SCALES, COARSE)]
    shifts = [(0, 0), *_shifts(where.shape)]
    scores = np.zeros((len(shifts), len(fields)))
    area = _by_part(where.astype(np.float32))
    parts = np.zeros((len(shifts), *area.shape))
    for row, shift in enumerate(shifts):
        for column, (a, b) in enumerate(fields):
            agreed = (np.roll(a, shift, axis=(1, 2)) * b).sum(axis=0) * where
            scores[row, column] = agreed.sum() / where.sum()
            parts[row] += _by_part(agreed)
    chance = scores[1:]
    above = (scores[0] - chance.mean(axis=0)) / np.maximum(chance.std(axis=0), 1e-6)
    covered = area >= LEAST_PART * area.max()
    better = (parts[1:] >= parts[0]).mean(axis=0)[covered]
    significance = max(float(above[:-1].mean()), float(above[-1]))
    return StructureAgreement(float(scores[0, :-1].mean()), significance, float((better <= 0.1).mean()))


def _by_part(values: Array) -> Array:
    """Sums of an image (h, w) over PARTS x PARTS rectangles."""
    rows, columns = (np.linspace(0, length, PARTS + 1).astype(int)[:-1] for length in values.shape)
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)


def _shifts(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(rows, columns) of the shifts that give the level of chance: 6 % and 12 % of the view, all around."""
    turns, size = np.arange(TURNS) * 2 * np.pi / TURNS, max(shape)
    return [
        (round(share * size * np.sin(turn)), round(share * size * np.cos(turn)))
        for share in (0.06, 0.12)
        for turn in turns
    ]


def tissue_overlap(view: FrameView, brought: Brought) -> float:
    """Share of the smaller of the two tissues that lies on the other, 0..1."""
    smaller = min(view.tissue.sum(), brought.tissue.sum())
    return float((view.tissue & brought.tissue).sum() / smaller) if smaller else 0.0


def compared_area(view: FrameView, brought: Brought) -> Array:
    """Where two sections are compared, bool (h, w): inside both tissues, away from their outer border.

    The border is left out because two sections of one shape agree there whatever they are. Lumens are inside. Of tissue
    too thin for that (needle biopsies) all is compared.
    """
    both = ndimage.binary_fill_holes(view.tissue) & ndimage.binary_fill_holes(brought.tissue) & brought.inside
    inner = ndimage.binary_erosion(both, iterations=BORDER)
    return inner if inner.sum() > 0.25 * both.sum() else both
