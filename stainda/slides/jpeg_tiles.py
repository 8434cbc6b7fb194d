"""JPEG tiles of a TIFF, read and decoded without OpenSlide, which spends most of its time elsewhere.

OpenSlide draws every tile on a canvas with transparency, from which the colours are then taken apart. The pixels of its
tiles are those that libjpeg-turbo decodes, so where a region lies on whole pixels of a level both ways give the same
bytes (tests/slides/test_slides_jpeg_tiles.py), and this one takes a fifth of the time
(benchmarks/speed_reading.py).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage


_CACHE_BYTES = 32 << 20
_JPEG = 7
_SPACES = {2: "RGB", 6: "YCBCR"}
_ORIENTATION = 274


class JpegTiles:
    """The tiles of some levels of a slide; several threads may read them.

    Tiles that a region covers in part are kept for its neighbours; whole ones are not.

    Attributes:
        levels: numbers of the levels that can be read.
    """

    def __init__(self, path: Path, pages: dict[int, Any]) -> None:
        self._levels = {level: _Level(page) for level, page in pages.items()}
        self.levels = frozenset(pages)
        self._file = os.open(path, os.O_RDONLY)
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def read(
        self, level: int, x: int, y: int, width: int, height: int, into: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8] | None:
        """RGB uint8 (height, width, 3) of a region within a level, or ``None`` where a tile of it is damaged.

        Args:
            into: the array that is filled and returned; default: a new one.
        """
        at = self._levels[level]
        across, down = at.tile
        columns = range(x // across, (x + width - 1) // across + 1)
        rows = range(y // down, (y + height - 1) // down + 1)
        if len(rows) == len(columns) == 1 and (width, height) == at.tile:
            return self._tile(level, rows[0] * at.across + columns[0], keep=False, into=into)
        image = np.empty((height, width, 3), np.uint8) if into is None else into
        for row in rows:
            for column in columns:
                left, top = column * across, row * down
                x0, x1 = max(x, left), min(x + width, left + across)
                y0, y1 = max(y, top), min(y + height, top + down)
                partly = (x1 - x0, y1 - y0) != at.shown(column, row)
                part = self._tile(level, row * at.across + column, keep=partly)
                if part is None:
                    return None
                image[y0 - y : y1 - y, x0 - x : x1 - x] = part[y0 - top : y1 - top, x0 - left : x1 - left]
        return image

    def close(self) -> None:
        os.close(self._file)

    def _tile(
        self, level: int, index: int, keep: bool, into: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8] | None:
        """Pixels (tile height, tile width, 3); those that are kept must not be written to, and are not put ``into``."""
        if self._kept:
            with self._lock:
                kept = self._kept.get((level, index))
                if kept is not None:
                    self._kept.move_to_end((level, index))
                    if keep:
                        return kept
                    if into is None:
                        return kept.copy()
                    into[:] = kept
                    return into
        pixels = self._levels[level].decode(self._file, index, into)
        if keep and pixels is not None:
            with self._lock:
                self._bytes += 0 if (level, index) in self._kept else pixels.nbytes
                self._kept[level, index] = pixels
                while self._bytes > _CACHE_BYTES and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels


class _Level:
    """Where the tiles of a page lie in the file, and how they are decoded."""

    def __init__(self, page: TiffPage) -> None:
        self.tile = (int(page.tilewidth), int(page.tilelength))
        self.size = (int(page.imagewidth), int(page.imagelength))
        self.across = -(-self.size[0] // self.tile[0])
        self._offsets = np.asarray(page.dataoffsets, np.int64)
        self._lengths = np.asarray(page.databytecounts, np.int64)
        self._tables, self._space = page.jpegtables, _SPACES[int(page.photometric)]

    def shown(self, column: int, row: int) -> tuple[int, int]:
        """Width and height of the part of a tile that lies within the level."""
        width, height = (
            min(side, size - at * side) for side, size, at in zip(self.tile, self.size, (column, row), strict=True)
        )
        return width, height

    def decode(self, file: int, index: int, into: NDArray[np.uint8] | None = None) -> NDArray[np.uint8] | None:
        from imagecodecs import jpeg8_decode

        data = os.pread(file, int(self._lengths[index]), int(self._offsets[index]))
        # a picture of any other size is not decoded
        out = np.empty((self.tile[1], self.tile[0], 3), np.uint8) if into is None else into
        try:
            jpeg8_decode(data, tables=self._tables, colorspace=self._space, outcolorspace="RGB", out=out)
        except Exception:  # imagecodecs has an error class per codec; OpenSlide, asked instead, says what is wrong
            return None
        return out


def jpeg_tiles(path: Path, file: TiffFile, sizes: Sequence[tuple[int, int]]) -> JpegTiles | None:
    """The levels of a slide that OpenSlide has opened whose tiles are JPEG and complete; ``None`` where there is none.

    Args:
        file: the same file as an open ``tifffile.TiffFile``.
        sizes: width and height of OpenSlide's levels. A level is the one tiled page of its size.
    """
    if not hasattr(os, "pread"):  # Windows
        return None
    try:
        levels = _levels(file, sizes)
        return JpegTiles(path, levels) if levels else None
    except Exception:  # tifffile raises whatever a damaged structure leads to; OpenSlide decodes what it can
        return None


def _levels(file: TiffFile, sizes: Sequence[tuple[int, int]]) -> dict[int, Any]:
    pages: dict[tuple[int, int], list[Any]] = {}
    for entry in file.pages:
        page = entry.aspage()
        if page.is_tiled:
            pages.setdefault((int(page.imagewidth), int(page.imagelength)), []).append(page)
    return {level: pages[size][0] for level, size in enumerate(sizes) if _decodable(pages.get(size, []))}


def _decodable(pages: list[Any]) -> bool:
    if len(pages) != 1:
        return False
    page = pages[0]
    turned = page.tags.get(_ORIENTATION)
    return (
        int(page.compression) == _JPEG
        and int(page.photometric) in _SPACES
        and page.samplesperpixel == 3
        and page.planarconfig == 1
        and (turned is None or int(turned.value) == 1)
        and len(page.dataoffsets) == len(page.databytecounts) >= _tiles(page)
        and min(page.databytecounts) > 0  # OpenSlide makes tiles that are not there from other levels
        and max(page.databytecounts) <= 2 * _raw_bytes(page)
    )


def _tiles(page: TiffPage) -> int:
    return -(-int(page.imagewidth) // int(page.tilewidth)) * -(-int(page.imagelength) // int(page.tilelength))


def _raw_bytes(page: TiffPage) -> int:
    """Of a tile without compression, and of its header: a file that claims much more is damaged or hostile."""
    return int(page.tilewidth) * int(page.tilelength) * 3 + (1 << 16)
