"""Grids of a tile: coarse nodes and linear interpolation between them, aligned to the whole section.

Smooth quantities (the deformation, distances from surfaces) are computed at nodes and interpolated. Nodes lie at fixed
level-0 pixels, so a tile has the same values whichever tile grid it is rendered on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array

NODE = 16  # level-0 pixels between nodes of the deformation; tiles begin and end on nodes


def upsample(values: Array, factor: int) -> Array:
    """Linear interpolation of nodes (n + 1, m + 1) to pixels (n * factor, m * factor); node k is pixel k * factor."""
    if factor == 1:
        return values[:-1, :-1]
    return _along(_along(values, factor).T, factor).T


def _along(values: Array, factor: int) -> Array:
    below, above = values[:-1], values[1:]
    out = np.empty((factor * len(below), values.shape[1]), dtype=values.dtype)
    step = (above - below) * values.dtype.type(1 / factor)
    for k in range(factor):
        out[k::factor] = below if k == 0 else below + step * values.dtype.type(k)
    return out


def repeat(values: Array, factor: int) -> Array:
    """Nearest neighbour for numbers that are names: nodes (n + 1, m + 1) to pixels (n * factor, m * factor)."""
    shift = factor // 2
    if factor == 1:
        return values[:-1, :-1]
    wide = np.repeat(np.repeat(values, factor, axis=0), factor, axis=1)
    rows, columns = (values.shape[0] - 1) * factor, (values.shape[1] - 1) * factor
    return wide[shift : shift + rows, shift : shift + columns]


@dataclass(frozen=True)
class TileGrid:
    """A tile of a section, with its margin: top left (x, y), width and height in level-0 pixels, multiples of NODE.

    ``step`` is the spacing of the middle grid, level-0 pixels (a power of two, at most NODE).
    """

    x: int
    y: int
    width: int
    height: int
    step: int

    def node_pixels(self) -> tuple[Array, Array]:
        """Level-0 x and y of the centres of the node pixels, one row and column beyond the tile's end."""
        columns = self.x + NODE * np.arange(self.width // NODE + 2) + 0.5
        rows = self.y + NODE * np.arange(self.height // NODE + 2) + 0.5
        x, y = np.meshgrid(columns, rows)
        return x, y

    def to_middle(self, nodes: Array) -> Array:
        """Node values to the middle grid, (height / step + 1, width / step + 1)."""
        fine = upsample(nodes, NODE // self.step)
        return np.ascontiguousarray(fine[: self.height // self.step + 1, : self.width // self.step + 1])

    def to_pixels(self, nodes: Array) -> Array:
        return upsample(nodes[:-1, :-1], NODE)

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice] | None:
        """Rows and columns of the middle grid within ``reach`` pixels of (x, y), or None where none is."""
        left = max(0, int(np.floor((x - reach - self.x) / self.step)))
        right = min(self.width // self.step + 1, int(np.ceil((x + reach - self.x) / self.step)) + 1)
        top = max(0, int(np.floor((y - reach - self.y) / self.step)))
        bottom = min(self.height // self.step + 1, int(np.ceil((y + reach - self.y) / self.step)) + 1)
        return (slice(top, bottom), slice(left, right)) if right - left > 1 and bottom - top > 1 else None
