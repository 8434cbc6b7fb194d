"""Placing tubules so that they fill the cortex as real ones do: nearly touching, the long ones in rays, the rest
coiled.

Works on a raster of free space in the middle plane of one layer. Candidates are drawn many at a time; one is kept
when its centre line runs clear of what is there. Small overlaps are wanted: the renderer lets neighbours press each
other flat.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from stainda.arrays import Array

CELL = 4.0  # micrometres per raster cell


@dataclass
class Raster:
    """Free space around the origin: ``taken`` (n, n) bool; cell (row, column) is at (column, row) * CELL - half."""

    half: float
    taken: Array = field(init=False)

    def __post_init__(self) -> None:
        side = int(np.ceil(2 * self.half / CELL))
        self.taken = np.zeros((side, side), dtype=bool)

    @property
    def axes(self) -> Array:
        """(n,) micrometres of the cell centres along one axis."""
        return (np.arange(len(self.taken)) + 0.5) * CELL - self.half

    def cells(self, xy: Array) -> tuple[Array, Array, Array]:
        """Rows, columns (clipped) and whether the points lie in the raster at all."""
        place = np.floor((xy + self.half) / CELL).astype(int)
        inside = np.all((place >= 0) & (place < len(self.taken)), axis=-1)
        place = np.clip(place, 0, len(self.taken) - 1)
        return place[..., 1], place[..., 0], inside

    def stamp(self, mask: Array, xy: Array, radius: float) -> None:
        """Set ``mask`` within ``radius`` of every point (k, 2)."""
        reach = int(np.ceil(radius / CELL))
        steps = np.arange(-reach, reach + 1)
        gy, gx = np.meshgrid(steps, steps, indexing="ij")
        disc = np.hypot(gx, gy) * CELL <= radius
        place = np.floor((np.atleast_2d(xy) + self.half) / CELL).astype(int)
        rows = place[:, 1, None] + gy[disc]
        columns = place[:, 0, None] + gx[disc]
        side = len(mask)
        keep = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        mask[rows[keep], columns[keep]] = True

    def clearance(self) -> Array:
        """(n, n) micrometres to the nearest taken cell."""
        return ndimage.distance_transform_edt(~self.taken).astype(np.float32) * CELL


@dataclass
class Placed:
    """One tube: its centre line (k, 3), radius and name of kind."""

    line: Array
    radius: float
    kind: str


def curve(rng: np.random.Generator, start: Array, heading: float, length: float, bend: float) -> Array:
    """A plane curve (k, 2) of about 9 micrometre steps that turns by a wandering ``bend`` radians per micrometre."""
    steps = max(2, int(np.ceil(length / 9.0)) + 1)
    turning = rng.normal(0, bend) + np.cumsum(rng.normal(0, bend * 0.25, steps))
    angles = heading + np.cumsum(turning) * 9.0
    moves = 9.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    line = start + np.cumsum(moves, axis=0)
    return line - (line.mean(axis=0) - start)


def fill(
    raster: Raster, rng: np.random.Generator, heading: float, middle: float, half_depth: float, ray_phase: float
) -> list[Placed]:
    """Fill the free space of ``raster`` with tubules of one layer around the height ``middle``.

    Args:
        raster: what is already taken (outside the tissue, glomeruli, vessels); filled on return.
        heading: direction of the medullary rays, radians.
        middle, half_depth: height and half thickness of the layer, micrometres.
        ray_phase: shifts the stripes in which the rays run.
    """
    placed: list[Placed] = []
    area = float(np.count_nonzero(~raster.taken)) * CELL**2
    for length_low, length_high, share, ray in (
        (220, 420, 0.00022, True), (120, 240, 0.0003, True), (110, 230, 0.00018, False), (50, 120, 0.0004, False),
    ):  # fmt: skip
        placed += _lines(
            raster, rng, int(area * share), (length_low, length_high), heading, middle, ray=ray, ray_phase=ray_phase
        )
    for smallest in (20.0, 17.0, 14.0, 11.0, 9.0, 8.0):
        placed += _rounds(raster, rng, smallest, middle, half_depth)
    return placed


def _lines(
    raster: Raster, rng: np.random.Generator, number: int, length: tuple[float, float], heading: float, middle: float,
    *, ray: bool, ray_phase: float,
) -> list[Placed]:  # fmt: skip
    clear = raster.clearance()
    claimed = np.zeros_like(raster.taken)
    placed = []
    starts = rng.uniform(-raster.half, raster.half, (number, 2))
    across = starts @ np.array([-np.sin(heading), np.cos(heading)])
    in_ray = np.cos(2 * np.pi * across / 430 + ray_phase) > 0.35
    rows, columns, _ = raster.cells(starts)
    for start in starts[(in_ray if ray else ~in_ray) & (clear[rows, columns] > 14)]:
        kind = str(rng.choice(("proximal", "distal", "collecting"), p=(0.45, 0.33, 0.22) if ray else (0.7, 0.26, 0.04)))
        radius = _radius(rng, kind) * (0.85 if ray else 1.0)
        direction = heading + rng.normal(0, 0.06) if ray else rng.uniform(0, 2 * np.pi)
        line = curve(rng, start, direction, rng.uniform(*length), 0.0006 if ray else 0.009)
        rows, columns, inside = raster.cells(line)
        if not inside.all() or clear[rows, columns].min() < 0.85 * radius or claimed[rows, columns].any():
            continue
        raster.stamp(claimed, line, radius + 17)
        raster.stamp(raster.taken, line, 0.9 * radius)
        height = middle + rng.normal(0, 0.2 * radius) + rng.normal(0, 0.05) * np.linspace(-1, 1, len(line)) * radius
        arch = -np.abs(rng.normal(0, 0.3)) * np.linspace(-1, 1, len(line)) ** 4 * radius * rng.choice((-1, 1))
        placed.append(Placed(np.column_stack([line, height + arch]), radius, kind))
    return placed


def _rounds(
    raster: Raster, rng: np.random.Generator, smallest: float, middle: float, half_depth: float
) -> list[Placed]:
    clear = raster.clearance()
    clear += rng.uniform(0, 0.01, clear.shape).astype(np.float32)
    peak = (clear == ndimage.maximum_filter(clear, size=5)) & (clear > smallest)
    rows, columns = np.nonzero(peak)
    claimed = np.zeros_like(raster.taken)
    placed = []
    for place in np.argsort(-clear[rows, columns]):
        row, column = rows[place], columns[place]
        if claimed[row, column]:
            continue
        room = float(clear[row, column])
        kind = str(rng.choice(("proximal", "distal", "collecting"), p=(0.66, 0.27, 0.07)))
        radius = float(np.clip(_radius(rng, kind), smallest, room * 1.08))
        spare = max(0.0, room - radius)
        xy = (np.array([column, row]) + 0.5) * CELL - raster.half + rng.uniform(-0.5, 0.5, 2) * spare
        raster.stamp(claimed, xy, 1.7 * room)
        raster.stamp(raster.taken, xy, 0.9 * radius)
        lean = np.tan(np.deg2rad(min(70.0, abs(rng.normal(0, 26)))))
        side = rng.uniform(0, 2 * np.pi)
        rise = max(half_depth - 0.4 * radius, 5.0)
        drift = lean * rise * np.array([np.cos(side), np.sin(side)])
        line = np.array([[*(xy - drift), middle - rise], [*(xy + drift), middle + rise]])
        placed.append(Placed(line, radius, kind))
    return placed


def _radius(rng: np.random.Generator, kind: str) -> float:
    mean, spread = {"proximal": (26.0, 3.0), "distal": (17.5, 2.0), "collecting": (19.0, 3.0)}[kind]
    return float(np.clip(rng.normal(mean, spread), mean - 2 * spread, mean + 2 * spread))
