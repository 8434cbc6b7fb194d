"""Where pixels come from: a slide or an array, both read at the working scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stainda.arrays import Array
from stainda.errors import SlideError

if TYPE_CHECKING:
    from stainda.slides import Slide, TissueMask

SAMPLED_TILES = 64
"""Tiles of tissue from which a slide's batch statistics and colours are estimated, at most."""

SAMPLED_PIXELS = 4096


class PixelRegion(Protocol):
    """Pixels at the working scale; (0, 0) is the region's corner.

    Attributes:
        height, width: pixels at the working scale.
        x, y: level-0 position of the corner.
        downsample: level-0 pixels per pixel.
        extent: width and height, level-0 pixels: the last pixels of a whole slide may reach beyond it.
    """

    height: int
    width: int
    x: float
    y: float
    downsample: float
    extent: tuple[float, float]

    @property
    def has_tissue(self) -> bool: ...

    @property
    def tissue_area(self) -> float:
        """Level-0 pixels squared."""

    def read(self, left: int, top: int, width: int, height: int) -> Array: ...

    def tissue_share(self, boxes: Array) -> Array: ...

    def seen_share(self, boxes: Array) -> Array:
        """The share of each box that a network is to see: its tissue, or less of it."""

    def is_tissue(self, xy: Array) -> Array: ...


class SlideRegion:
    """A whole slide at the working scale, with its tissue; ``note``: what is to be said of where a network looks."""

    x = y = 0.0
    note = ""

    def __init__(self, slide: Slide, tissue: TissueMask, downsample: float) -> None:
        self._slide, self._tissue, self.downsample = slide, tissue, downsample
        self.width, self.height = (max(1, math.ceil(side / downsample - 1e-6)) for side in slide.size)
        self.extent = (float(slide.size[0]), float(slide.size[1]))

    @property
    def has_tissue(self) -> bool:
        return bool(self._tissue.mask.any())

    @property
    def tissue_area(self) -> float:
        step, mask = self._tissue.downsample, self._tissue.mask
        # the last pixels of the mask may reach beyond the slide
        height, width = (
            np.diff(np.minimum(np.arange(count + 1) * step, side))
            for count, side in zip(mask.shape, reversed(self.extent), strict=True)
        )
        return float(height @ mask @ width)

    def read(self, left: int, top: int, width: int, height: int) -> Array:
        return self._slide.read_scaled(left * self.downsample, top * self.downsample, width, height, self.downsample)

    def tissue_share(self, boxes: Array) -> Array:
        return self._tissue.share(np.asarray(boxes) * self.downsample)

    def seen_share(self, boxes: Array) -> Array:
        return self.tissue_share(boxes)

    def is_tissue(self, xy: Array) -> Array:
        return self._tissue.contains(np.asarray(xy) * self.downsample)


class LoadedRegion(SlideRegion):
    """A whole slide read once and kept in memory, for one that many networks look at. The slide may be closed after."""

    def __init__(self, slide: Slide, tissue: TissueMask, downsample: float) -> None:
        super().__init__(slide, tissue, downsample)
        self._image = slide.read_scaled(0, 0, self.width, self.height, downsample)

    def read(self, left: int, top: int, width: int, height: int) -> Array:
        return _window(self._image, left, top, width, height)


class ArrayRegion:
    """An image already in memory, at the working scale.

    Args:
        image: uint8 RGB ``(h, w, 3)``.
        tissue: bool ``(h, w)``, where there is tissue; ``None``: everywhere.
        x, y, downsample: where the image lies on its slide, for the coordinates of the result.
    """

    def __init__(
        self,
        image: Array,
        tissue: Array | None = None,
        x: float = 0.0,
        y: float = 0.0,
        downsample: float = 1.0,
    ) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"expected an uint8 RGB image (h, w, 3), found {image.dtype} {image.shape}")
        self._image = image
        self._tissue = np.ones(image.shape[:2], bool) if tissue is None else np.asarray(tissue, bool)
        self.height, self.width = image.shape[:2]
        self.x, self.y, self.downsample = x, y, downsample
        self.extent = (self.width * downsample, self.height * downsample)

    @property
    def has_tissue(self) -> bool:
        return bool(self._tissue.any())

    @property
    def tissue_area(self) -> float:
        return float(self._tissue.sum() * self.downsample**2)

    def read(self, left: int, top: int, width: int, height: int) -> Array:
        return _window(self._image, left, top, width, height)

    def tissue_share(self, boxes: Array) -> Array:
        limits = [self.width, self.height, self.width, self.height]
        clipped = np.clip(np.asarray(boxes, float).reshape(-1, 4), 0, limits).astype(int)
        areas = np.asarray([(b[2] - b[0]) * (b[3] - b[1]) for b in np.asarray(boxes, float).reshape(-1, 4)])
        sums = np.asarray([self._tissue[y0:y1, x0:x1].sum() for x0, y0, x1, y1 in clipped])
        return sums / np.maximum(areas, 1)

    def seen_share(self, boxes: Array) -> Array:
        return self.tissue_share(boxes)

    def is_tissue(self, xy: Array) -> Array:
        column, row = np.floor(np.asarray(xy).reshape(-1, 2)).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < self.width) & (row < self.height)
        zeros = np.zeros(len(inside), bool)
        zeros[inside] = self._tissue[row[inside], column[inside]]
        return zeros


def tissue_pixels(region: PixelRegion) -> Array:
    """Where a region has tissue, bool ``(h, w)``, at its own scale."""
    column = np.arange(region.width) + 0.5
    rows = np.empty((region.height, region.width), bool)
    for row in range(region.height):
        rows[row] = region.is_tissue(np.stack([column, np.full(region.width, row + 0.5)], 1))
    return rows


def _window(image: Array, left: int, top: int, width: int, height: int) -> Array:
    """A part of an image, white outside of it."""
    out = np.full((height, width, 3), 255, np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, image.shape[1]), min(top + height, image.shape[0])
    if x0 < x1 and y0 < y1:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out


@dataclass(frozen=True)
class TissueSample:
    """Tiles of tissue, uint8 ``(n, S, S, 3)``, and pixels of tissue in them, uint8 ``(m, 3)``."""

    tiles: Array
    pixels: Array


def sample_tissue(region: PixelRegion, size: int, min_tissue: float, generator: np.random.Generator) -> TissueSample:
    """Tiles of a region spread at random over its tissue, of which at least ``min_tissue`` is tissue each.

    Where no tile has that much, those with the most are taken.
    """
    step = max(size // 2, 1)
    lefts = np.arange(0, max(region.width - size, 0) + step, step)
    tops = np.arange(0, max(region.height - size, 0) + step, step)
    lefts, tops = np.minimum(lefts, max(region.width - size, 0)), np.minimum(tops, max(region.height - size, 0))
    corners = np.stack(np.meshgrid(np.unique(lefts), np.unique(tops)), -1).reshape(-1, 2)
    shares = region.tissue_share(np.hstack([corners, corners + size]))
    enough = np.flatnonzero(shares >= min_tissue)
    if not len(enough):
        enough = np.argsort(-shares, kind="stable")[:4]
        enough = enough[shares[enough] > 0]
    chosen = np.sort(generator.permutation(enough)[:SAMPLED_TILES])
    tiles, pixels = [], []
    per_tile = -(-SAMPLED_PIXELS // max(len(chosen), 1))
    for left, top in corners[chosen]:
        tile = region.read(int(left), int(top), size, size)
        xy = generator.integers(0, size, (per_tile * 2, 2))
        on = region.is_tissue(xy + np.asarray([left + 0.5, top + 0.5]))
        pixels.append(tile[xy[on][:per_tile, 1], xy[on][:per_tile, 0]])
        tiles.append(tile)
    if not tiles:
        return TissueSample(np.zeros((0, size, size, 3), np.uint8), np.zeros((0, 3), np.uint8))
    return TissueSample(np.stack(tiles), np.concatenate(pixels)[:SAMPLED_PIXELS])


def no_tissue(path: Path) -> SlideError:
    return SlideError("no tissue is found on this slide", file=path, remedy="Look at the slide's thumbnail")
