"""Warping of a section's pixels into the frame or another section, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from stainda.arrays import Array
from stainda.errors import RegistrationError
from stainda.slides import Slide

TILE = 512  # output pixels that are made at once
MAX_PIXELS = 400_000_000  # of one picture in memory: 1.2 GB
PIECE_PIXELS = 3072 * 3072  # source pixels read for one tile; more (a strong shear) and the tile is cut into four
MARGIN = 2  # source pixels read beyond what is needed, for interpolation


class FrameMap(Protocol):
    """Interface for warping an image: the part of :class:`stainda.registration.maps.PointMap` that it needs."""

    def from_frame(self, xy: Array) -> Array: ...

    def grain(self) -> float: ...


def warped_region(
    mapping: FrameMap, slide: Slide, region: tuple[float, float, float, float], downsample: float
) -> Array:
    """RGB uint8 (height, width, 3): output pixel (i, j) has its centre at the frame's level-0 point
    (x + (i + 0.5)·downsample, y + (j + 0.5)·downsample).

    Args:
        region: (x, y, width, height) in level-0 pixels of the frame; it may reach beyond the frame.

    Raises:
        RegistrationError: the region is empty or has too many pixels for one picture.
        SlideError: the slide cannot be read.
    """
    width, height = picture_size(region[2:], downsample)
    if width * height > MAX_PIXELS:
        raise RegistrationError(
            f"{width} x {height} pixels are too many for one picture",
            remedy="Ask for a smaller region or a larger downsample, or export an OME-TIFF",
        )
    picture = np.empty((height, width, 3), np.uint8)
    for left, top, tile in warped_tiles(mapping, slide, region, downsample):
        picture[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return picture


def picture_size(size: tuple[float, float] | tuple[float, ...], downsample: float) -> tuple[int, int]:
    """(width, height) in output pixels of so many level-0 pixels.

    Raises:
        RegistrationError: nothing is left, or a number is none.
    """
    if not (math.isfinite(downsample) and downsample > 0 and all(math.isfinite(side) and side > 0 for side in size)):
        raise RegistrationError(f"no such region: {size[0]} x {size[1]} level-0 pixels at downsample {downsample}")
    return max(1, math.ceil(size[0] / downsample - 1e-9)), max(1, math.ceil(size[1] / downsample - 1e-9))


def warped_tiles(
    mapping: FrameMap,
    slide: Slide,
    region: tuple[float, float, float, float],
    downsample: float,
    tile: int = TILE,
) -> Iterator[tuple[int, int, Array]]:
    """The picture of :func:`warped_region` in tiles, row by row: (left, top, pixels), made when requested."""
    width, height = picture_size(region[2:], downsample)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            size = min(tile, width - left), min(tile, height - top)
            corner = region[0] + left * downsample, region[1] + top * downsample
            yield left, top, _tile(mapping, slide, corner, size, downsample)


def _tile(
    mapping: FrameMap, slide: Slide, corner: tuple[float, float], size: tuple[int, int], downsample: float
) -> Array:
    from scipy import ndimage

    width, height = size
    where, stretch = _places(mapping, corner, size, downsample)
    inside = (where >= -MARGIN).all(axis=2) & (where <= np.array(slide.size) + MARGIN).all(axis=2)
    if not inside.any():
        return np.full((height, width, 3), 255, np.uint8)
    step = max(1.0, downsample * stretch)  # level-0 pixels of the section per pixel read
    low, high = where[inside].min(axis=0), where[inside].max(axis=0)
    start = np.floor(low / step) - MARGIN
    across, down = (int(v) for v in np.ceil(high / step) + MARGIN - start)
    if across * down > PIECE_PIXELS and max(size) > 16:
        half = (width + 1) // 2, (height + 1) // 2
        picture = np.empty((height, width, 3), np.uint8)
        for top in (0, half[1]):
            for left in (0, half[0]):
                part = min(half[0], width - left), min(half[1], height - top)
                if min(part) > 0:
                    at = corner[0] + left * downsample, corner[1] + top * downsample
                    picture[top : top + part[1], left : left + part[0]] = _tile(mapping, slide, at, part, downsample)
        return picture
    if across * down > PIECE_PIXELS:  # a handful of pixels strewn over the slide: the map is torn here
        step *= math.sqrt(across * down / PIECE_PIXELS)
        start = np.floor(low / step) - MARGIN
        across, down = (int(v) for v in np.ceil(high / step) + MARGIN - start)
    source = slide.read_scaled(float(start[0] * step), float(start[1] * step), across, down, step)
    at = where / step - start - 0.5  # indices count from the centre of the first pixel
    places = np.where(inside, at[..., 1], -9.0), np.where(inside, at[..., 0], -9.0)
    layers = [
        ndimage.map_coordinates(source[..., band], places, order=1, mode="constant", cval=255, output=np.float32)
        for band in range(3)
    ]
    return np.clip(np.stack(layers, axis=2) + 0.5, 0, 255).astype(np.uint8)


def _places(
    mapping: FrameMap, corner: tuple[float, float], size: tuple[int, int], downsample: float
) -> tuple[Array, float]:
    """Section points (height, width, 2) of a tile's pixel centres, and the section pixels per frame pixel there.

    The map is computed at knots half its grain apart and continued linearly between them.
    """
    grain = mapping.grain()
    gap = int(np.clip(grain / (2 * downsample) if math.isfinite(grain) else 256, 1, 256))
    knots = [np.arange(0, side - 1 + gap, gap) if side > 1 else np.array([0, 1]) for side in size]
    x, y = np.meshgrid(*knots)
    centres = np.stack([x.ravel(), y.ravel()], axis=1) + 0.5
    positions = mapping.from_frame(centres * downsample + corner).reshape(*x.shape, 2)
    if torn := not np.isfinite(positions).all():  # between pieces of tissue there is nothing to continue over
        knots = [np.arange(max(side, 2)) for side in size]
        x, y = np.meshgrid(*knots)
        exact = np.stack([x.ravel(), y.ravel()], axis=1) + 0.5
        positions = mapping.from_frame(exact * downsample + corner).reshape(*x.shape, 2)
        if not np.isfinite(positions).any():
            return positions[: size[1], : size[0]], 1.0
    middle = np.nanmedian if torn else np.mean  # steps from one piece to the next are none
    across = middle(np.linalg.norm(np.diff(positions, axis=1), axis=2)) / (downsample * (knots[0][1] - knots[0][0]))
    along = middle(np.linalg.norm(np.diff(positions, axis=0), axis=2)) / (downsample * (knots[1][1] - knots[1][0]))
    # in quarter octaves, so that neighbouring tiles are read alike
    stretch = 2 ** (round(4 * math.log2(max(1e-6, math.sqrt(across * along)))) / 4)
    if torn:
        return positions[: size[1], : size[0]], stretch
    rows, columns = _weights(size[1], knots[1]), _weights(size[0], knots[0])
    return np.stack([rows @ positions[..., axis] @ columns.T for axis in (0, 1)], axis=2), stretch


def _weights(count: int, knots: Array) -> Array:
    """Matrix (count, knots) of linear interpolation at 0, 1, .. count - 1."""
    at = np.arange(count)
    gap = knots[1] - knots[0]
    left = np.minimum(at // gap, len(knots) - 2)
    share = at / gap - left
    out = np.zeros((count, len(knots)))
    out[at, left] = 1 - share
    out[at, left + 1] += share
    return out
