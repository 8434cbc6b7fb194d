"""Shapes of one section propagated to another, and the objects they are joined into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shapely.geometry.base import BaseGeometry

from stainda.arrays import Array
from stainda.cohort.types import Section

if TYPE_CHECKING:
    import geopandas as gpd


@dataclass(frozen=True, eq=False)
class PropagatedShapes:
    """The shapes of one source section after propagation to the target.

    Attributes:
        section: the source. shapes: as drawn. warped: the same rows on the target, level-0 pixels.
        measured: arrays (n,) by name, see ``confidence.py``; and ``diameter``, ``area_ratio``, ``above_chance``.
        faults: why a shape cannot be used, "" where it can.
        seen: what of the target this source shows.
        touched: of a shape that cannot be used and reaches beyond one piece of tissue, where the pieces lie that it
            touches; empty for all others.
    """

    section: Section
    shapes: gpd.GeoDataFrame
    warped: gpd.GeoDataFrame
    measured: Mapping[str, Array]
    faults: tuple[str, ...]
    seen: BaseGeometry
    touched: tuple[BaseGeometry, ...]


@dataclass(frozen=True, eq=False)
class PropagatedObject:
    """One object in one target section: the shapes it was joined from, its outline and its probabilities.

    Attributes:
        cls: its class.
        members: (source index, row) of its shapes, nearest section first.
        geometry: its outline on the target, clipped to the tissue.
        how: how the outline came about, in words.
        lacking: slides between or beyond that show the place without the object.
        features: what the models read. right, exists: probabilities.
        dissent: 1 - Dice of each member's own outline with the outline, in the order of ``members``.
        clipped: the outline was cut at the border of the tissue.
        unsure: how unsure the registration is of the place, 0 to 1.
        outvoted: where sections vote (``between: majority``), the object lost.
    """

    cls: str
    members: tuple[tuple[int, int], ...]
    geometry: BaseGeometry
    how: str
    lacking: tuple[str, ...]
    dissent: tuple[float, ...]
    features: Mapping[str, float] = field(default_factory=dict)
    right: float = 1.0
    exists: float = 1.0
    clipped: bool = False
    outvoted: bool = False
    unsure: float = 0.0
