"""Transforms of a section whose tissue pieces have moved independently of each other, as cores of a biopsy do.

Each piece has a transform of its own. Which one holds at a point is read from two label images, one over the section
and one over the frame. Between the pieces, and in pieces that have no partner, no transform holds: points there have
no place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.labels import trace
from stainda.arrays import Array
from stainda.registration.affine import apply_affine

GAP, UNPAIRED = "between two tissue pieces", "in a tissue piece without a partner"


class PieceTransform(Protocol):
    """The part of :class:`stainda.registration.transforms.Transform` that a piece needs."""

    @property
    def matrix(self) -> Array: ...

    @property
    def rigid(self) -> PieceTransform: ...

    @property
    def bends(self) -> bool: ...

    def to_frame(self, xy: Array) -> Array: ...

    def from_frame(self, xy: Array) -> Array: ...

    def doubt(self, frame_xy: Array) -> Array: ...

    def grain(self) -> float: ...

    def arrays(self) -> dict[str, Array]: ...


@dataclass(frozen=True, eq=False)
class PieceMap:
    """Which piece a point belongs to.

    Attributes:
        labels: uint8 (h, w): 0 between the pieces, else the number of the piece, counted from 1.
        matrix: float64 (3, 3), level-0 pixels to indices of ``labels``.
    """

    labels: Array
    matrix: Array

    def at(self, xy: Array) -> Array:
        """Numbers (n,) at level-0 points (n, 2); 0 outside and for NaN."""
        x, y = apply_affine(self.matrix, xy).T
        height, width = self.labels.shape
        known = np.isfinite(x) & np.isfinite(y)
        column, row = (np.round(np.where(known, part, -9)).astype(int) for part in (x, y))
        inside = known & (column >= 0) & (row >= 0) & (column < width) & (row < height)
        return np.where(inside, self.labels[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)], 0)

    @cached_property
    def areas(self) -> dict[int, BaseGeometry]:
        """The area of each piece by its number, level-0 pixels."""
        back = np.linalg.inv(self.matrix)
        numbers, shapes = trace(self.labels, (-0.5, -0.5))  # an index is the middle of a pixel
        areas = shapely.make_valid(shapely.transform(shapes, lambda xy: apply_affine(back, xy)))
        shapely.prepare(areas)
        return dict(zip(numbers, areas, strict=True))

    @property
    def grain(self) -> float:
        """Level-0 pixels of one index."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of a section and of its frame.

    Attributes:
        section, frame: where they lie. Piece ``k`` of one belongs to piece ``k`` of the other; numbers beyond the
            transforms are pieces without a partner.
        transforms: of the pieces, section to frame, in the order of their numbers.
    """

    section: PieceMap
    frame: PieceMap
    transforms: tuple[PieceTransform, ...]

    def to_frame(self, xy: Array) -> Array:
        """Frame points (n, 2); NaN where no transform holds."""
        return self._each(self.section.at(xy), xy, lambda part, points: part.to_frame(points))

    def from_frame(self, xy: Array) -> Array:
        """Section points (n, 2); NaN where no transform holds."""
        return self._each(self.frame.at(xy), xy, lambda part, points: part.from_frame(points))

    def doubt(self, frame_xy: Array) -> Array:
        """How unsure it is at frame points, (n,); 1 where no transform holds."""
        number, out = self.frame.at(frame_xy), np.ones(len(frame_xy))
        for k, part in enumerate(self.transforms, 1):
            out[number == k] = part.doubt(frame_xy[number == k])
        return out

    def nowhere(self, xy: Array) -> str:
        """Why section points (n, 2) have no place, of the first that has none; empty where all have one."""
        number = self.section.at(xy)
        lost = number[(number == 0) | (number > len(self.transforms))]
        return "" if not len(lost) else GAP if lost[0] == 0 else UNPAIRED

    @property
    def rigid(self) -> Pieces:
        return replace(self, transforms=tuple(part.rigid for part in self.transforms))

    def grain(self) -> float:
        return min(self.section.grain, *(part.grain() for part in self.transforms))

    def arrays(self) -> dict[str, Array]:
        """To be stored: label images, their matrices, and the transforms' arrays by the number of the piece."""
        out = {
            "pieces_section": self.section.labels, "pieces_section_matrix": self.section.matrix,
            "pieces_frame": self.frame.labels, "pieces_frame_matrix": self.frame.matrix,
        }  # fmt: skip
        for k, part in enumerate(self.transforms, 1):
            out |= {f"piece_{k}_{name}": values for name, values in part.arrays().items()}
        return out

    @classmethod
    def read(
        cls, arrays: Mapping[str, Array], count: int, part: Callable[[Mapping[str, Array]], PieceTransform]
    ) -> Pieces:
        """Of stored arrays. ``part`` makes a transform of the arrays of one piece."""
        transforms = []
        for k in range(1, count + 1):
            start = f"piece_{k}_"
            own = {name.removeprefix(start): values for name, values in arrays.items() if name.startswith(start)}
            transforms.append(part(own))
        section, frame = (
            PieceMap(arrays[f"pieces_{of}"], arrays[f"pieces_{of}_matrix"]) for of in ("section", "frame")
        )
        return cls(section, frame, tuple(transforms))

    def _each(self, number: Array, xy: Array, move: Callable[[PieceTransform, Array], Array]) -> Array:
        out = np.full(xy.shape, np.nan)
        for k, part in enumerate(self.transforms, 1):
            here = number == k
            if here.any():
                out[here] = move(part, xy[here])
        return out
