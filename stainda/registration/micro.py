"""Micro-registration: the neighbourhood of each propagated object is aligned once more at the object's own scale.

A section is registered on a view of 512 pixels. Of a whole slide that is some 10 to 40 µm a pixel, and what is left
after registration, a fraction of such a pixel, is a tenth of a glomerulus. Around each object four of its widths of
both sections are sampled, 32 samples across the object, and the deformation between the two is found as it is between
whole sections (``deformation.py``), as stiff as a window allows.

A deformation that is fitted to structures always raises their agreement, so it is judged where it was not fitted: by
squares of the window that were held back, each once. It is kept where these agree better by one standard error, and
only between sections whose objects agree better in all: between others single gains are chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

from stainda.arrays import Array
from stainda.objects.moving import moved_geometries
from stainda.randomness import generator_for
from stainda.registration.deformation import DeformationLevel, Stiffness, exponential, velocity
from stainda.registration.held_back import LEAST_SQUARES, Gain, HeldBack, agreement_map
from stainda.registration.moved_shapes import same_kind
from stainda.registration.neighbourhood import DensityPyramid, Neighbourhood
from stainda.registration.refinement import shifted
from stainda.registration.similarity import VIEW_DIM, DensityGradients

if TYPE_CHECKING:
    from stainda.registration.sections import SectionImage
    from stainda.registration.transforms import Between

CELLS = 128  # samples along a window
WIDTHS = 4.0  # a window's side, in widths of its object
ACROSS = CELLS / WIDTHS  # samples across an object
LEVELS = (DeformationLevel(CELLS // 2, 4, 2, 1), DeformationLevel(CELLS, 3, 2, 2))
STIFFNESS = Stiffness(12.0, 24.0)
# Samples along a square that is held back; every other one is, as on a chessboard. Squares of 12 lie within the reach
# of structures that a fit has seen: windows of other places then agreed better by .012 on average, and by .000 with 32.
SQUARE = 32
KEPT = 1.0  # standard errors by which the squares around an object must agree better
SURE = 3.0  # the same of all objects of two sections, and of each where there are fewer than LEAST_SQUARES objects
FIRST = 48  # objects that decide whether two sections have anything to gain
MOST = 2000  # objects of a section that are aligned; more would take longer than the registration of a block


@dataclass(frozen=True, eq=False)
class MicroRegistration:
    """Attributes:
    outlines: object (n,), geometries in level-0 pixels of the target; those whose alignment is kept are moved.
    moved: float (n, 2), by how much on average, the same pixels; 0 where nothing was kept.
    gain: float (n,), by how much squares that were held back agree better, -2 to 2; NaN where it was not tried.
    """

    outlines: Array
    moved: Array
    gain: Array

    @property
    def shift(self) -> Array:
        """How far each outline was moved, level-0 pixels of the target (n,); NaN where it was not tried."""
        return np.where(np.isfinite(self.gain), np.hypot(*self.moved.T), np.nan)


def pixels_across(widths: Array, image: SectionImage) -> float:
    """How many pixels of the view on which sections are registered half of the objects measure at least; ``widths``
    (n,) in level-0 pixels."""
    if not len(widths):
        return float("inf")
    return float(np.median(widths)) * VIEW_DIM / (max(image.pixels.shape[:2]) * image.downsample)


def not_aligned(outlines: Array) -> MicroRegistration:
    """Every outline stays where the registration puts it."""
    return MicroRegistration(outlines, np.zeros((len(outlines), 2)), np.full(len(outlines), np.nan))


def micro_register(
    densities: tuple[DensityPyramid, DensityPyramid], between: Between, outlines: Array
) -> MicroRegistration:
    """Align the neighbourhood of every area once more.

    Args:
        densities: of the source and the target. between: the map from source to target.
        outlines: object (n,), geometries as ``between`` puts them, level-0 pixels of the target; what is no area stays
            where it is.
    """
    result = not_aligned(outlines.copy())
    bounds = shapely.bounds(outlines).reshape(-1, 4)
    areas = np.flatnonzero((shapely.area(outlines) > 0) & np.isfinite(bounds).all(axis=1))
    order = generator_for(0, "micro-registration").permutation(areas)[:MOST]
    sides = {index: _side(bounds[index], densities[1]) for index in order}
    few = _independent(bounds[order], np.array([sides[index] for index in order])) < LEAST_SQUARES
    for number, index in enumerate(order):
        if number == FIRST and not few and not _supported(result.gain, bounds, sides):
            break
        window = _Window.of(densities, between, bounds[index], sides[index])
        gain = window.gain()
        result.gain[index] = gain.mean
        if gain.mean > (SURE if few else KEPT) * gain.error:
            outline, moved = window.aligned(outlines[index])
            if outline.area > 0:
                result.outlines[index], result.moved[index] = outline, moved
    if few or _supported(result.gain, bounds, sides):
        return result
    return MicroRegistration(outlines, np.zeros((len(outlines), 2)), result.gain)


def _side(box: Array, density: DensityPyramid) -> float:
    """The side of an object's window, level-0 pixels of the target."""
    return max(WIDTHS * float(max(box[2] - box[0], box[3] - box[1])), CELLS * density.image.downsample)


def _independent(boxes: Array, sides: Array) -> float:
    """As how many windows side by side those of objects count, which may overlap: the area of all, in windows."""
    if not len(boxes):
        return 0.0
    centres = shapely.points((boxes[:, :2] + boxes[:, 2:]) / 2)
    windows = shapely.buffer(centres, sides / 2, cap_style="square")
    return float(shapely.union_all(windows).area / shapely.area(windows).mean())


def _supported(gains: Array, bounds: Array, sides: Mapping[int, float]) -> bool:
    """The objects of two sections agree better in all.

    Args:
        gains: (n,), NaN where it was not tried. bounds: (n, 4) of all objects; sides: of the windows, by object.
    """
    tried = np.flatnonzero(np.isfinite(gains))
    number = _independent(bounds[tried], np.array([sides[int(index)] for index in tried]))
    return float(gains[tried].mean()) > SURE * float(gains[tried].std(ddof=1)) / np.sqrt(number)


@dataclass(frozen=True, eq=False)
class _Window:
    """The neighbourhood of one object, and where of it sections can be compared, bool (CELLS, CELLS)."""

    around: Neighbourhood
    compared: Array

    @classmethod
    def of(cls, densities: tuple[DensityPyramid, DensityPyramid], between: Between, box: Array, side: float) -> _Window:
        around = Neighbourhood.of(densities, between, (box[:2] + box[2:]) / 2, side, CELLS)
        return cls(around, around.inside & around.shown)

    def gain(self) -> Gain:
        """By how much the squares agree better that a deformation was not fitted to."""
        source, fixed = self.around.source, DensityGradients(self.around.target)
        as_placed = agreement_map(fixed, DensityGradients(source), self.compared)
        before, after = [], []
        for held in _squares():
            moved = DensityGradients(shifted(source, exponential(self._velocity(held.seen))))
            before.append(held.means(as_placed, self.compared))
            after.append(held.means(agreement_map(fixed, moved, self.compared), self.compared))
        return Gain.of(np.concatenate(before), np.concatenate(after))

    def aligned(self, outline: BaseGeometry) -> tuple[BaseGeometry, Array]:
        """An outline moved by the deformation that is fitted to all of the window, and by how much on average (2,)."""
        # u + d(u) is where the source, as it was placed, has what the target shows at u; an outline goes the other way
        back = exponential(-self._velocity(np.ones_like(self.compared)))

        def steps(xy: Array) -> Array:
            column, row = self.around.samples(xy).T
            parts = [ndimage.map_coordinates(part, (row, column), order=1, mode="nearest") for part in back]
            return np.stack(parts, axis=1) * self.around.pitch

        placed = moved_geometries([outline], lambda xy: xy + steps(xy))[0][0]
        valid = placed if placed.is_valid else same_kind(shapely.make_valid(placed))
        return valid, steps(shapely.get_coordinates(outline)).mean(axis=0)

    def _velocity(self, seen: Array) -> Array:
        around = self.around
        compared = around.inside & seen
        return velocity(around.target, around.source, compared, around.shown, stiffness=STIFFNESS, levels=LEVELS)


def _squares() -> tuple[HeldBack, HeldBack]:
    """Squares of a window, like the two colours of a chessboard: each is held back once."""
    row, column = (part // SQUARE for part in np.indices((CELLS, CELLS)))
    number = row * (CELLS // SQUARE + 1) + column + 1
    white = (row + column) % 2 == 0
    return HeldBack(np.where(white, number, 0)), HeldBack(np.where(white, 0, number))
