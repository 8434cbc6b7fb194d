"""Writing a pyramidal, tiled JPEG TIFF as its rows of tiles are made, without ever holding the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from stainda.arrays import Array
from stainda.files import whole_file

TILE = 256


@dataclass
class _Level:
    """One level of the pyramid: rows not yet encoded, and the JPEG tiles made so far."""

    width: int
    height: int
    quality: int
    rows: list[Array] = field(default_factory=list)
    tiles: list[bytes] = field(default_factory=list)
    waiting: int = 0
    seen: int = 0

    def add(self, band: Array) -> Iterator[Array]:
        """Take rows of pixels; encode, and yield, every complete row of tiles."""
        self.rows.append(band)
        self.waiting += len(band)
        self.seen += len(band)
        while self.waiting >= TILE or (self.seen == self.height and self.waiting):
            stack = np.concatenate(self.rows) if len(self.rows) > 1 else self.rows[0]
            strip, rest = stack[:TILE], stack[TILE:]
            self.rows, self.waiting = ([rest] if len(rest) else []), len(rest)
            self._encode(strip)
            yield strip

    def _encode(self, strip: Array) -> None:
        missing = (-strip.shape[1]) % TILE
        padded = np.pad(strip, ((0, TILE - len(strip)), (0, missing), (0, 0)), mode="edge")
        for left in range(0, padded.shape[1], TILE):
            tile = np.ascontiguousarray(padded[:, left : left + TILE])
            self.tiles.append(bytes(imagecodecs.jpeg8_encode(tile, level=self.quality, subsampling="422")))


def write_pyramid(path: str | Path, bands: Iterator[Array], width: int, height: int, mpp: float, quality: int) -> Path:
    """Write a slide from bands of rows.

    Args:
        path: the file, which appears when it is whole.
        bands: uint8 (rows, width, 3), from top to bottom, ``height`` rows in all.
        mpp: micrometres per pixel of level 0, written as the resolution in pixels per centimetre.
        quality: of the JPEG tiles.
    """
    levels = [_Level(width, height, quality)]
    while max(levels[-1].width, levels[-1].height) > 2 * TILE:
        levels.append(_Level((levels[-1].width + 1) // 2, (levels[-1].height + 1) // 2, quality))
    for band in bands:
        _feed(levels, 0, band)
    with whole_file(path) as aside, tifffile.TiffWriter(aside, bigtiff=_needs_big(levels)) as tif:
        for number, level in enumerate(levels):
            factor = width / level.width
            tif.write(
                iter(level.tiles), shape=(level.height, level.width, 3), dtype=np.uint8, tile=(TILE, TILE),
                photometric="ycbcr", subsampling=(2, 1), compression="jpeg", subfiletype=1 if number else 0,
                resolution=(1e4 / (mpp * factor), 1e4 / (mpp * factor)), resolutionunit="CENTIMETER", metadata=None,
                software="stainda phantom",
            )  # fmt: skip
    return Path(path)


def _feed(levels: list[_Level], number: int, band: Array) -> None:
    """Give rows to a level, and each finished row of tiles, halved, to the next."""
    for strip in levels[number].add(band):
        if number + 1 < len(levels):
            _feed(levels, number + 1, _halve(strip))


def _halve(strip: Array) -> Array:
    odd_rows, odd_columns = len(strip) % 2, strip.shape[1] % 2
    if odd_rows or odd_columns:
        strip = np.pad(strip, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
    total = strip[0::2, 0::2].astype(np.uint16)
    total += strip[1::2, 0::2]
    total += strip[0::2, 1::2]
    total += strip[1::2, 1::2]
    total += 2
    return (total >> 2).astype(np.uint8)


def _needs_big(levels: list[_Level]) -> bool:
    return sum(len(tile) for level in levels for tile in level.tiles) > 3_500_000_000
