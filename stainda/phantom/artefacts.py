"""Artefacts of real sections, added to a synthetic section at positions known from the seed.

A mirror is part of the section's map; the others change what a tile absorbs, in pixels of the section.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array
from stainda.phantom.colour import Camera
from stainda.phantom.grids import TileGrid
from stainda.phantom.maps import TrueMap
from stainda.phantom.scene import Scene
from stainda.randomness import generator_for

_PENS = ((0.9, 0.35, 0.10), (0.55, 0.15, 0.75), (0.85, 0.8, 0.75), (0.1, 0.75, 0.7))  # blue, green, black, red


def plan_artefacts(seed: int, block: str, number: int, wanted: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Which artefacts each of the ``number`` sections of a block gets: each wanted one on one section.

    The first section is spared where there are others, and no section is blank and something else at once.
    """
    rng = generator_for(seed, block, "artefacts")
    free = list(range(1, number)) or [0]
    given: list[list[str]] = [[] for _ in range(number)]
    order = [free[i] for i in rng.permutation(len(free))]
    if "blank" in wanted:
        given[order[0]].append("blank")
        order = order[1:]
    for count, name in enumerate(name for name in wanted if name != "blank"):
        if order:
            given[order[count % len(order)]].append(name)
    return [tuple(names) for names in given]


def _distance_grid(grid: TileGrid) -> tuple[Array, Array]:
    columns = grid.x + 0.5 + np.arange(grid.width, dtype=np.float32)
    rows = grid.y + 0.5 + np.arange(grid.height, dtype=np.float32)
    return columns[None, :], rows[:, None]


@dataclass(frozen=True)
class Line:
    """A wavy line across a section: point (x, y), direction and length in level-0 pixels, and its waviness."""

    x: float
    y: float
    angle: float
    length: float
    wave: float

    def along_across(self, grid: TileGrid) -> tuple[Array, Array]:
        """Pixels along and across the line for every pixel of a tile."""
        px, py = _distance_grid(grid)
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        along = (px - np.float32(self.x)) * cos + (py - np.float32(self.y)) * sin
        across = (py - np.float32(self.y)) * cos - (px - np.float32(self.x)) * sin
        across = across + np.float32(self.wave) * np.sin(along * np.float32(9.0 / self.length))
        across += np.float32(0.12 * self.wave) * np.sin(along * np.float32(61.0 / self.length))
        return along, across


@dataclass(frozen=True)
class Tear:
    """The tissue is missing along a spindle-shaped crack; glass shows."""

    line: Line
    width: float

    def apply(self, density: Array, grid: TileGrid, camera: Camera) -> None:
        along, across = self.line.along_across(grid)
        half = self.width * np.sqrt(np.clip(1 - (2 * along / self.line.length) ** 2, 0, 1))
        density[(np.abs(across) < half) & (half > 1)] = 0


@dataclass(frozen=True)
class Fold:
    """A strip where the tissue lies double: what is next to it, turned over, absorbs as well."""

    line: Line
    width: float
    turned: Scene

    def apply(self, density: Array, grid: TileGrid, camera: Camera) -> None:
        along, across = self.line.along_across(grid)
        strip = (np.abs(across) < self.width) & (np.abs(along) < self.line.length / 2)
        if strip.any():
            density += camera.density(self.turned.tile(grid)) * strip[..., None]
            density[strip] *= 1.1


@dataclass(frozen=True)
class Bubble:
    """Air under the cover glass: a dark rim and a paler inside."""

    x: float
    y: float
    radius: float

    def apply(self, density: Array, grid: TileGrid, camera: Camera) -> None:
        px, py = _distance_grid(grid)
        away = np.hypot(px - np.float32(self.x), py - np.float32(self.y)) / np.float32(self.radius)
        density[away < 1] *= np.float32(0.62)
        density += (0.55 * np.exp(-(((away - 1) / 0.035) ** 2)) + 0.03 * (away < 1))[..., None].astype(np.float32)


@dataclass(frozen=True)
class Pen:
    """A stroke of a marker on the glass."""

    line: Line
    width: float
    colour: tuple[float, float, float]

    def apply(self, density: Array, grid: TileGrid, camera: Camera) -> None:
        along, across = self.line.along_across(grid)
        inside = (np.abs(across) < self.width) & (np.abs(along) < self.line.length / 2)
        streak = 0.8 + 0.2 * np.sin(across * np.float32(18.0 / self.width))
        density += (inside * streak)[..., None] * np.array(self.colour, dtype=np.float32)


@dataclass(frozen=True)
class Blank:
    """Nothing on the glass but a little dust."""

    spots: Array

    def apply(self, density: Array, grid: TileGrid, camera: Camera) -> None:
        density[:] = 0
        px, py = _distance_grid(grid)
        for x, y, radius in self.spots.astype(np.float32):
            if grid.x - 20 < x < grid.x + grid.width + 20 and grid.y - 20 < y < grid.y + grid.height + 20:
                density[np.hypot(px - x, py - y) < radius] = 0.25


Artefact = Tear | Fold | Bubble | Pen | Blank


def make_artefacts(seed: int, slide: str, size: int, names: tuple[str, ...], scene: Scene) -> list[Artefact]:
    """The artefacts called ``names`` (mirror is the map's business), placed on a section of ``size`` pixels."""
    artefacts: list[Artefact] = []
    for name in names:
        rng = generator_for(seed, slide, "artefact", name)
        x, y = size * rng.uniform(0.36, 0.64, 2)
        line = Line(x, y, rng.uniform(0, np.pi), size * rng.uniform(0.35, 0.6), size * rng.uniform(0.008, 0.02))
        if name == "tear":
            artefacts.append(Tear(line, size * rng.uniform(0.008, 0.016)))
        elif name == "fold":
            artefacts.append(
                Fold(line, size * rng.uniform(0.012, 0.02), Scene(scene.anatomy, _turned(scene.map, line)))
            )
        elif name == "bubble":
            artefacts.append(Bubble(x, y, size * rng.uniform(0.05, 0.1)))
        elif name == "pen":
            artefacts.append(Pen(line, size * rng.uniform(0.01, 0.016), _PENS[rng.integers(len(_PENS))]))
        elif name == "blank":
            artefacts.append(Blank(np.column_stack([rng.uniform(0, size, (6, 2)), rng.uniform(2, 8, 6)])))
    return artefacts


def _turned(straight: TrueMap, line: Line) -> TrueMap:
    """The map of the same section seen in a mirror along the line."""
    cos, sin = np.cos(2 * line.angle), np.sin(2 * line.angle)
    mirror = np.array([[cos, sin], [sin, -cos]])
    point = np.array([line.x, line.y])
    matrix = straight.matrix @ mirror
    shift = straight.shift + straight.matrix @ (point - mirror @ point)
    return TrueMap(matrix, shift, straight.waves, straight.phases, straight.amplitudes, straight.mpp, straight.z)
