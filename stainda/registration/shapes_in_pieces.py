"""Areas that reach over several pieces of tissue: cut where the pieces end, each part moved with its own piece.

An outline that a pathologist draws around all cores of a biopsy crosses the glass between them, where nothing has a
place. What it says of the tissue holds nevertheless.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.overlay import only_areas
from stainda.arrays import Array
from stainda.objects.moving import moved_geometries
from stainda.registration.pieces import PieceMap

Move = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class MapStep:
    """One step of a map: a function of points (n, 2), or one for each piece of tissue.

    Attributes:
        moves: the function, or those of the pieces in the order of their numbers.
        pieces: where each holds; ``None``: the one function holds everywhere.
    """

    moves: tuple[Move, ...]
    pieces: PieceMap | None = None

    def numbers(self, xy: Array) -> Array:
        """The piece of each point, int (n,); 0 where none holds."""
        assert self.pieces is not None
        number = self.pieces.at(xy)
        return np.where(number > len(self.moves), 0, number)

    def points(self, xy: Array) -> Array:
        """The points moved; NaN where they have no place."""
        if self.pieces is None:
            return self.moves[0](xy)
        number, out = self.numbers(xy), np.full(xy.shape, np.nan)
        for k, move in enumerate(self.moves, 1):
            out[number == k] = move(xy[number == k])
        return out

    def parts(self, area: BaseGeometry) -> list[tuple[Move, BaseGeometry]]:
        """An area as its parts of each piece, with the function that moves them."""
        if self.pieces is None:
            return [(self.moves[0], area)]
        cut = [only_areas(shapely.intersection(area, piece)) for piece in self.areas]
        return [(move, part) for move, part in zip(self.moves, cut, strict=True) if part.area > 0]

    @property
    def areas(self) -> list[BaseGeometry]:
        """The areas in which the functions hold, in their order."""
        assert self.pieces is not None
        return [self.pieces.areas.get(number, shapely.Polygon()) for number in range(1, len(self.moves) + 1)]


@dataclass(frozen=True, eq=False)
class CutAreas:
    """The areas of a set of geometries (n,) that do not lie within one piece each.

    Attributes:
        index: int (m,), which they are. outlines: object (m,), what has a place, there; empty where nothing has.
        shares: float (m,), of each area, 0 to 1, that has a place.
    """

    index: Array
    outlines: Array
    shares: Array


def cut_at_pieces(geometries: Array, steps: Sequence[MapStep]) -> CutAreas:
    """Cut the areas that reach beyond one piece of tissue, and move their parts.

    Args:
        geometries: object (n,). steps: of the map, the first of them first.
    """
    if all(step.pieces is None for step in steps):
        return CutAreas(np.zeros(0, int), np.zeros(0, object), np.zeros(0))
    flat = shapely.force_2d(np.asarray(geometries, dtype=object))
    index = np.flatnonzero(_reaches_beyond(flat, steps) & (shapely.area(flat) > 0))
    outlines, shares = np.empty(len(index), object), np.zeros(len(index))
    for k, area in enumerate(flat[index]):
        outlines[k], shares[k] = _moved(only_areas(shapely.make_valid(area)), steps)
    return CutAreas(index, outlines, shares)


def footprint(area: BaseGeometry, steps: Sequence[MapStep]) -> BaseGeometry:
    """Where the pieces of tissue that an area touches lie after all steps; empty where there are no pieces."""
    parts = [only_areas(shapely.make_valid(shapely.force_2d(area)))]
    for number, step in enumerate(steps):
        if step.pieces is None:
            parts = [_moved(part, [step])[0] for part in parts]
            continue
        whole = shapely.union_all(parts)
        there = [
            _moved(_step_of(move, piece), steps[number + 1 :])[0]
            for move, piece in zip(step.moves, step.areas, strict=True)
            if piece.area > 0 and shapely.intersects(piece, whole)
        ]
        return only_areas(shapely.union_all(there)) if there else shapely.Polygon()
    return shapely.Polygon()


def _reaches_beyond(geometries: Array, steps: Sequence[MapStep]) -> Array:
    """Whether the points of each geometry do not all lie in one piece at each step, bool (n,)."""
    xy, owner = shapely.get_coordinates(geometries, return_index=True)
    beyond = np.zeros(len(geometries), bool)
    for step in steps:
        if step.pieces is not None:
            number = step.numbers(xy)
            low, high = np.full(len(geometries), 255), np.zeros(len(geometries), int)
            np.minimum.at(low, owner, number)
            np.maximum.at(high, owner, number)
            beyond |= (low != high) | (low == 0)
        xy = step.points(xy)
    return beyond


def _moved(area: BaseGeometry, steps: Sequence[MapStep]) -> tuple[BaseGeometry, float]:
    """An area after all steps, and the share of it that has a place."""
    parts = [(area, 1.0)]
    for step in steps:
        parts = [
            (_step_of(move, cut), share * cut.area / part.area)
            for part, share in parts
            if part.area > 0
            for move, cut in step.parts(part)
        ]
    union = shapely.union_all([part for part, _ in parts]) if parts else shapely.Polygon()
    return only_areas(union), float(sum(share for _, share in parts))


def _step_of(move: Move, area: BaseGeometry) -> BaseGeometry:
    return only_areas(shapely.make_valid(moved_geometries([area], move)[0][0]))
