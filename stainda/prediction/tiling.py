"""A large image as overlapping tiles, and their results as one seamless map, a strip of tiles in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array


@dataclass(frozen=True)
class TilePlan:
    """How a region is covered by tiles.

    Attributes:
        height, width: of the region, pixels.
        tile: pixels of a square tile as the network takes it.
        margin: pixels at each side of a tile for which the network gives no result.
        overlap: pixels by which the results of neighbouring tiles overlap.
    """

    height: int
    width: int
    tile: int
    margin: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.result:
            raise ValueError(
                f"an overlap of {self.overlap} does not fit into tiles whose result has {self.result} pixels"
            )

    @property
    def result(self) -> int:
        """Pixels of a tile's result."""
        return self.tile - 2 * self.margin

    @property
    def rows(self) -> list[int]:
        """Top of the result of each row of tiles; the last row may reach beyond the region."""
        return _starts(self.height, self.result, self.result - self.overlap)

    @property
    def columns(self) -> list[int]:
        return _starts(self.width, self.result, self.result - self.overlap)

    def window(self) -> Array:
        """Weights of a tile's result in the blend, float32 ``(result, result)``: 1 inside, falling towards the rim."""
        distance = np.minimum(np.arange(self.result) + 0.5, self.result - np.arange(self.result) - 0.5)
        ramp = np.minimum(distance / (self.overlap + 0.5), 1.0).astype(np.float32)
        return ramp[:, None] * ramp[None, :]


def _starts(length: int, result: int, step: int) -> list[int]:
    return list(range(0, max(length - result, 0) + step, step)) if length > result else [0]


class Blend:
    """Puts results of tiles together, row of tiles after row of tiles.

    Args:
        plan: where the tiles lie.
        out: array ``(classes, height, width)`` that is filled; what no tile covers stays as it is.
    """

    def __init__(self, plan: TilePlan, out: Array) -> None:
        self._plan, self._out = plan, out
        reach = plan.columns[-1] + plan.result
        self._sum = np.zeros((out.shape[0], plan.result, reach), np.float32)
        self._weight = np.zeros((plan.result, reach), np.float32)
        self._window = plan.window()
        self._top = 0

    def add(self, left: int, result: Array) -> None:
        """Add a tile of the current row: its left edge in the region, and float ``(classes, result, result)``."""
        columns = slice(left, left + self._plan.result)
        self._sum[:, :, columns] += result * self._window
        self._weight[:, columns] += self._window

    def next_row(self, top: int | None) -> None:
        """Finish the current row; ``top`` is where the next one begins, ``None`` after the last."""
        plan = self._plan
        done = plan.result if top is None else top - self._top
        rows = min(done, plan.height - self._top)
        weight = self._weight[:rows, : plan.width]
        known = weight > 0
        mean = self._sum[:, :rows, : plan.width] / np.where(known, weight, 1.0)
        where = (slice(None), slice(self._top, self._top + rows))
        self._out[where] = np.where(known, mean, self._out[where])
        if top is None:
            return
        for held in (self._sum, self._weight):
            held[..., : plan.result - done, :] = held[..., done:, :].copy()
            held[..., plan.result - done :, :] = 0
        self._top = top


def batches(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
