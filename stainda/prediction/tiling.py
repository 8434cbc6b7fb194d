"""A large image as overlapping tiles, and their results as one seamless map, a strip of tiles in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array
from stainda.prediction.reading import read_ahead
from stainda.prediction.regions import PixelRegion
from stainda.prediction.scratch import give_back
from stainda.progress import SILENT, Progress

OVERLAP = 64
"""Pixels by which results of neighbouring tiles overlap, and are blended."""

SMALLEST, LARGEST, STEP = 256, 736, 64
"""Pixels of a tile's result: sizes that are tried. Two images of the largest are half a million pixels each."""

BLENDED_VALUES = 2**21
"""Sums of results that are divided by their weights at once, about."""


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

    def boxes(self, top: int) -> Array:
        """Results of the tiles of a row: left, top, right, bottom ``(n, 4)``, pixels of the region."""
        return np.asarray([(left, top, left + self.result, top + self.result) for left in self.columns])

    def shown(self, region: PixelRegion) -> int:
        """Tiles with tissue."""
        return sum(int((region.seen_share(self.boxes(top)) > 0).sum()) for top in self.rows)

    def window(self) -> Array:
        """Weights of a tile's result in the blend, float32 ``(result, result)``: 1 inside, falling towards the rim."""
        distance = np.minimum(np.arange(self.result) + 0.5, self.result - np.arange(self.result) - 0.5)
        ramp = np.minimum(distance / (self.overlap + 0.5), 1.0).astype(np.float32)
        return ramp[:, None] * ramp[None, :]


def cheapest_plan(region: PixelRegion, sides: Callable[[int], int], margin: int, largest: int = LARGEST) -> TilePlan:
    """The plan that shows the network the fewest pixels of this region: large tiles repeat less of their rims, small
    ones show less glass around tissue.

    Args:
        sides: the network's own size for a wanted one, pixels of a tile with its margins.
        margin: pixels at each side of a tile for which the network gives no result.
        largest: result of a tile, pixels; :data:`SMALLEST` for networks whose answer depends on the size of the image.
    """
    plans = [_plan(region, result, sides, margin) for result in _results(region, largest)]
    return min(plans, key=lambda plan: (plan.shown(region) * plan.tile**2, -plan.tile))


def _results(region: PixelRegion, largest: int) -> list[int]:
    """Sizes of results to try: steps, and those by which a side divides evenly."""
    least = min(SMALLEST, max(region.height, region.width, OVERLAP + 1))
    tried = {least, *range(SMALLEST, largest + 1, STEP)}
    for length in (region.height, region.width):
        count = max(1, -(-(length - OVERLAP) // (largest - OVERLAP)))
        tried.add(-(-(length + (count - 1) * OVERLAP) // count))
    return sorted(result for result in tried if least <= result <= largest)


def _plan(region: PixelRegion, result: int, sides: Callable[[int], int], margin: int) -> TilePlan:
    tile = sides(result + 2 * margin)
    return TilePlan(region.height, region.width, tile, margin, min(OVERLAP, (tile - 2 * margin) // 2))


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
        self._write(min(done, plan.height - self._top))
        if top is None:
            return
        for held in (self._sum, self._weight):
            held[..., : plan.result - done, :] = held[..., done:, :].copy()
            held[..., plan.result - done :, :] = 0
        self._top = top

    def _write(self, rows: int) -> None:
        """Finish the first rows of what is held, a few at a time."""
        width = self._plan.width
        step = max(1, BLENDED_VALUES // (len(self._sum) * width))
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            weight = self._weight[part, :width]
            known = weight > 0
            if not known.any():
                continue
            out = self._out[:, self._top + start : self._top + part.stop]
            np.copyto(out, self._sum[:, part, :width] / np.where(known, weight, 1.0), where=known, casting="same_kind")
            give_back(self._out)


def blend_tiles(
    answer: Callable[[Array], Array],
    region: PixelRegion,
    plan: TilePlan,
    out: Array,
    *,
    batch: int,
    name: str,
    progress: Progress = SILENT,
) -> None:
    """Ask about every tile with tissue and blend the answers into ``out``, a row of tiles at a time.

    Args:
        answer: uint8 tiles ``(n, tile, tile, 3)`` to probabilities ``(n, classes, result, result)``.
        out: ``(classes, height, width)``; what no tile covers stays as it is.
        batch: tiles asked about at once; the next ones are read meanwhile.
        name: of the slide, for the progress shown.
    """
    blend, rows, columns = Blend(plan, out), plan.rows, plan.columns

    def shown() -> Iterator[tuple[int, Sequence[int]]]:
        """Number of a row, and the left edges of some of its tiles with tissue."""
        for row, top in enumerate(rows):
            lefts = [columns[index] for index in np.flatnonzero(region.seen_share(plan.boxes(top)) > 0)]
            yield from ((row, group) for group in batches(lefts, batch))

    def read(place: tuple[int, Sequence[int]]) -> Array:
        top = rows[place[0]] - plan.margin
        return np.stack([region.read(left - plan.margin, top, plan.tile, plan.tile) for left in place[1]])

    done = 0
    with progress.task(f"Predicting {name}", len(rows)) as bar:

        def finish_rows(before: int) -> None:
            nonlocal done
            while done < before:
                done += 1
                blend.next_row(rows[done] if done < len(rows) else None)
                bar.advance(1.0)

        for (row, lefts), tiles in read_ahead(shown(), read):
            finish_rows(row)
            for left, result in zip(lefts, answer(tiles), strict=True):
                blend.add(left, result)
        finish_rows(len(rows))


def batches(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
