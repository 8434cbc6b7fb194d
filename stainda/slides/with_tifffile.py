"""TIFF and OME-TIFF read tile by tile, where OpenSlide does not (or is not installed)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stainda.arrays import Array
from stainda.errors import SlideError
from stainda.slides.tiff_structure import TiffPicture, open_picture
from stainda.slides.with_openslide import on_white

if TYPE_CHECKING:
    from tifffile import TiffPage


_CACHE_BYTES = 64 << 20
_MAX_SEGMENT_BYTES = 1 << 30
_CONVERT = "Convert it to a tiled pyramid first: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --bigtiff"
_YCBCR = 6
_RGB_WHEN_DECODED = (6, 7, 33007, 34892)  # JPEG codecs turn YCbCr into RGB themselves


def open_tiff(path: Path) -> TiffBackend:
    """Open the largest picture of a TIFF, with its pyramid.

    Raises:
        SlideError: damaged, its compression is not known here, or its main picture is not one 8-bit RGB picture.
    """
    return read_picture(path, open_picture(path))


def read_picture(path: Path, picture: TiffPicture) -> TiffBackend:
    """The pixels of a picture of :func:`stainda.slides.tiff_structure.open_picture`; its file is closed on failure.

    Raises:
        Undecodable: its compression is not known here.
        SlideError: damaged or cut short.
    """
    try:
        lock = threading.Lock()
        levels = [_TiffLevel(picture, lock, pages) for pages in picture.levels]
        for level in levels:
            level.check(path.stat().st_size)
    except SlideError:
        picture.file.close()
        raise
    except Exception as error:  # tifffile raises whatever a damaged structure leads to
        picture.file.close()
        raise SlideError(f"not a TIFF that can be read ({error})", remedy="Copy or export it again") from error
    return TiffBackend(picture, levels)


class Undecodable(SlideError):
    """The file is sound, but no codec is here for its compression: another library may have one."""


class TiffBackend:
    """The levels of a TIFF; regions are put together from decoded tiles or strips, the latest of which are kept."""

    name = "tifffile"
    bounds: tuple[int, int, int, int] | None = None

    def __init__(self, picture: TiffPicture, levels: list[_TiffLevel]) -> None:
        self._file = picture.file
        self._levels = levels
        self.sizes: tuple[tuple[int, int], ...] = tuple((level.width, level.height) for level in levels)
        self.pixel_size = picture.pixel_size
        self.notes = picture.notes

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Array:
        return self._levels[level].read(x, y, width, height)

    def close(self) -> None:
        self._file.close()


class _TiffLevel:
    """One resolution, cut into tiles or strips ('segments'), of which one plane per sample where samples lie apart.

    Samples lie apart within a page (planar configuration 2) or on three pages.
    """

    def __init__(self, picture: TiffPicture, lock: threading.Lock, pages: list[Any]) -> None:
        self._pages = pages
        page = pages[0]
        self._handle = picture.file.filehandle
        self._alpha = picture.pixels.alpha
        self._lock = lock  # of the file, whose position all levels share
        self._cache: OrderedDict[tuple[int, int], Array | None] = OrderedDict()
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self._samples = picture.pixels.samples
        self._apart = page.planarconfig == 2 and page.samplesperpixel > 1
        self._to_rgb = page.photometric == _YCBCR and page.compression not in _RGB_WHEN_DECODED
        if page.is_tiled:
            self._tile = (int(page.tilewidth), int(page.tilelength))
        else:
            self._tile = (self.width, int(min(page.rowsperstrip or self.height, self.height)))
        if min(self._tile) <= 0:
            raise SlideError("damaged: its tiles have no pixels", remedy="Copy or export it again")
        self._across = -(-self.width // self._tile[0])
        self._down = -(-self.height // self._tile[1])

    def check(self, file_size: int) -> None:
        """Refuse what cannot be decoded, before anybody relies on it."""
        for page in self._pages:
            ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
            needed = self._across * self._down * (page.samplesperpixel if self._apart else 1)
            if max(ends, default=0) > file_size or len(ends) < needed:
                raise SlideError(
                    "cut short: its tiles lie beyond the end of the file", remedy="Copy or export it again"
                )
        if self._tile[0] * self._tile[1] * self._samples > _MAX_SEGMENT_BYTES:
            raise Undecodable(f"its {self.width} x {self.height} pixels are one piece", remedy=_CONVERT)
        try:
            self._segment(0, self._down // 2 * self._across + self._across // 2)
        except SlideError:
            raise
        except Exception as error:
            raise Undecodable(f"its compression is not supported ({error})", remedy=_CONVERT) from error

    def read(self, x: int, y: int, width: int, height: int) -> Array:
        image = np.zeros((height, width, self._samples), np.uint8)
        tile_w, tile_h = self._tile
        for row in range(y // tile_h, (y + height - 1) // tile_h + 1):
            for column in range(x // tile_w, (x + width - 1) // tile_w + 1):
                left, top = column * tile_w, row * tile_h
                x0, x1 = max(x, left), min(x + width, left + tile_w)
                y0, y1 = max(y, top), min(y + height, top + tile_h)
                target = image[y0 - y : y1 - y, x0 - x : x1 - x]
                for samples, page, index in self._parts(row * self._across + column):
                    part = self._segment(page, index)
                    # a tile that was never written: sparse TIFFs leave glass out
                    target[..., samples] = 255 if part is None else part[y0 - top : y1 - top, x0 - left : x1 - left]
        if self._to_rgb:
            image = _rgb_of_ycbcr(image)
        return on_white(image, self._alpha == "premultiplied") if self._samples == 4 else image

    def _parts(self, index: int) -> Iterator[tuple[slice, int, int]]:
        """The samples that a place's segments hold, with the page and the number of each segment."""
        if len(self._pages) > 1:
            yield from ((slice(page, page + 1), page, index) for page in range(len(self._pages)))
        elif self._apart:
            count = self._across * self._down
            yield from ((slice(n, n + 1), 0, index + n * count) for n in range(self._samples))
        else:
            yield slice(None), 0, index

    def _segment(self, at: int, index: int) -> Array | None:
        """Decoded samples (height, width, samples) of one tile or strip of a page."""
        with self._lock:
            if (at, index) in self._cache:
                self._cache.move_to_end((at, index))
                return self._cache[at, index]
            page = self._pages[at]
            size = page.databytecounts[index]
            data = None
            if size:
                self._handle.seek(page.dataoffsets[index])
                data = self._handle.read(size)
        part = None if data is None else self._decode(page, data, index)
        with self._lock:
            self._cache[at, index] = part
            keep = max(4, _CACHE_BYTES // (self._tile[0] * self._tile[1] * 3))
            while len(self._cache) > keep:
                self._cache.popitem(last=False)
        return part

    def _decode(self, page: TiffPage, data: bytes, index: int) -> Array:
        try:
            decoded, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        except NotImplementedError as error:
            raise Undecodable(f"its compression is not supported ({error})", remedy=_CONVERT) from error
        except Exception as error:  # imagecodecs raises one error class per codec
            raise SlideError(f"a tile cannot be decoded ({error})", remedy="Copy or export it again") from error
        if decoded is None:
            raise SlideError("a tile is missing", remedy="Copy or export it again")
        return decoded[0]


def _rgb_of_ycbcr(image: Array) -> Array:
    """Full-range BT.601, as TIFF 6.0 and JPEG have it: RGB uint8 of YCbCr uint8."""
    y, cb, cr = (image[..., n].astype(np.float32) for n in range(3))
    red, blue = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    green = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    return np.clip(np.rint(np.stack([red, green, blue], axis=-1)), 0, 255).astype(np.uint8)
