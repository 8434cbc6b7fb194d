"""Tubules and vessels of a section as outlines, from what was drawn; tubules with stained membranes apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from stainda.arrays import Array

OTHER, TUBULE, VESSEL, POSITIVE = 0, 1, 2, 3
SMALLEST_UM2 = 80.0
"""A tubule or vessel cut smaller than this is not annotated: a disc of 10 µm."""


@dataclass(frozen=True)
class StructureMap:
    """Which pixels of a section are of a tubule or a vessel, about one per micrometre.

    Attributes:
        kinds: uint8 (h, w): ``OTHER``, ``TUBULE``, ``VESSEL`` or ``POSITIVE`` (a tubule, too), of every ``step``-th
            level-0 pixel.
        step: level-0 pixels per pixel.
        mpp: micrometres per level-0 pixel.
    """

    kinds: Array
    step: int
    mpp: float

    @classmethod
    def of(cls, size: int, mpp: float) -> StructureMap:
        """An empty map of a section of ``size`` level-0 pixels."""
        step = cls.step_of(mpp)
        side = -(-size // step)
        return cls(np.zeros((side, side), np.uint8), step, mpp)

    @staticmethod
    def step_of(mpp: float) -> int:
        """Level-0 pixels per pixel of the map of a section of ``mpp``."""
        return max(1, round(1.0 / mpp))

    def put(self, x: int, y: int, kinds: Array) -> None:
        """Take over a region that was drawn.

        Args:
            x, y: its corner, level-0 pixels.
            kinds: uint8 (h, w), level-0 pixels.
        """
        below, right = -y % self.step, -x % self.step
        some = kinds[below :: self.step, right :: self.step]
        row, column = (y + below) // self.step, (x + right) // self.step
        self.kinds[row : row + some.shape[0], column : column + some.shape[1]] = some

    def outlines(self, kind: int) -> Iterator[BaseGeometry]:
        """Connected pixels of one kind, level-0 pixels, edges rounded by half a pixel, lumina included."""
        from stainda.annotations import instances, outlines

        smallest = SMALLEST_UM2 / (self.step * self.mpp) ** 2
        corner = (1 - self.step) / 2  # the level-0 pixel that was taken over is the middle of the map's
        shapes = outlines(instances(self.kinds == kind, smallest), corner, corner, self.step)
        for shape in shapes.geometry:
            filled = Polygon(max(getattr(shape, "geoms", [shape]), key=lambda part: part.area).exterior)
            rounded = filled.simplify(self.step / 2)
            yield rounded if rounded.is_valid and not rounded.is_empty else filled
