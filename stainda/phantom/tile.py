"""Structures in a tile of a section, and the section interface that drawing needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from stainda.arrays import Array
from stainda.phantom.anatomy import Anatomy
from stainda.phantom.grids import TileGrid
from stainda.phantom.maps import TrueMap
from stainda.phantom.noise import NoisePlane


@dataclass
class Tile:
    """Structures in a tile, arrays (height, width) of the grid.

    ``labels`` uint8 indices into STRUCTURES; ``grain`` and ``blotch`` float32 noise of the texture; ``tint`` float32
    0..1, the number of the tubule; ``shade`` float32, thickness and staining that vary slowly, about 1; ``depth``
    float32 micrometres below the surface of the nearest tubule; ``x``, ``y`` the pixels' places in the frame,
    micrometres, and ``middle`` those of the middle grid and ``bent`` the same as bodies see them; ``macrophages``
    those drawn; ``body_distance`` micrometres from a body's surface; ``kinds`` uint8, which of the structures of
    :mod:`stainda.phantom.structures` a pixel is of, where the section keeps that.
    """

    grid: TileGrid
    x: Array
    y: Array
    labels: Array
    grain: Array
    blotch: Array
    tint: Array
    shade: Array
    depth: Array
    middle: tuple[Array, Array]
    bent: tuple[Array, Array]
    macrophages: list[int] = field(default_factory=list)
    body_distance: dict[int, Array] = field(default_factory=dict)
    kinds: Array | None = None


class CutSection(Protocol):
    """A section through a block: the part of :class:`stainda.phantom.scene.Scene` that bodies and nuclei are drawn
    by."""

    anatomy: Anatomy
    map: TrueMap

    def noise(self, name: str, wavelength: float) -> NoisePlane: ...

    def body_kind(self, index: int) -> str: ...
