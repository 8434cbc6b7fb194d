"""TIFF and OME-TIFF read tile by tile, where OpenSlide does not (or is not installed)."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stainda.errors import SlideError
from stainda.slides.pixel_size import believable, from_resolution
from stainda.slides.slide import PixelSize
from stainda.slides.with_openslide import on_white

_CACHE_BYTES = 64 << 20
_MAX_SEGMENT_BYTES = 1 << 30
_CONVERT = "Convert it to a tiled pyramid first: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --bigtiff"
_RGB_ONLY = "stainda needs one 8-bit RGB picture of a stained section; export it as such"


def open_tiff(path: Path) -> TiffBackend:
    """Open the largest picture of a TIFF, with its pyramid.

    Never a smaller one: where the main picture is not RGB, an RGB thumbnail beside it would be the wrong picture.

    Raises:
        SlideError: damaged, or its main picture is not 8-bit RGB.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs what we raise
    try:
        file = tifffile.TiffFile(path)
    except Exception as error:
        raise SlideError(f"not a TIFF that can be read ({error})", remedy="Copy or export it again") from error
    try:
        if "<!ENTITY" in (file.pages.first.description or "")[:1_000_000]:
            raise SlideError("its metadata define XML entities, which no microscope writes", remedy="Do not trust it")
        series = max(file.series, key=_area, default=None)
    except SlideError:
        file.close()
        raise
    except Exception as error:  # tifffile raises whatever a damaged structure leads to
        file.close()
        raise SlideError(f"not a TIFF that can be read ({error})", remedy="Copy or export it again") from error
    try:
        if series is None:
            raise SlideError("the TIFF holds no picture", remedy="Copy or export it again")
        _refuse_unless_rgb(series)
        lock = threading.Lock()
        levels = [_TiffLevel(file, lock, page) for page in _pyramid(series)]
        for level in levels:
            level.check(path.stat().st_size)
        return TiffBackend(file, levels, _pixel_size(file, series.keyframe))
    except BaseException:
        file.close()
        raise


def _area(series: Any) -> int:
    lengths = dict(zip(series.axes, series.shape, strict=False))
    return lengths.get("X", 0) * lengths.get("Y", 0)


def _refuse_unless_rgb(series: Any) -> None:
    import tifffile

    page = series.keyframe
    lengths = dict(zip(series.axes, series.shape, strict=False))
    planes = {axis: n for axis, n in lengths.items() if axis not in "YXSC" and n > 1}
    if planes:
        named = {"Z": "focal planes", "T": "time points", "I": "pages", "Q": "pages"}
        listed = ", ".join(f"{n} {named.get(axis, axis)}" for axis, n in planes.items())
        raise SlideError(f"not one picture but a stack of {listed}", remedy=_RGB_ONLY)
    if lengths.get("C", 1) > 1:
        raise SlideError(f"{lengths['C']} separate channels (fluorescence or multispectral), not RGB", remedy=_RGB_ONLY)
    if page.dtype != np.uint8:
        raise SlideError(f"pixels of type {page.dtype}, not 8-bit RGB", remedy=_RGB_ONLY)
    if page.photometric not in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR) or page.samplesperpixel < 3:
        name = getattr(page.photometric, "name", str(page.photometric)).lower()
        what = {"minisblack": "greyscale", "miniswhite": "greyscale", "palette": "a colour table", "separated": "CMYK"}
        raise SlideError(f"not RGB but {what.get(name, name)}", remedy=_RGB_ONLY)
    if page.samplesperpixel > 4:
        raise SlideError(f"{page.samplesperpixel} samples per pixel, not RGB", remedy=_RGB_ONLY)


def _pyramid(series: Any) -> Iterator[Any]:
    """The pages of a series' levels that hold the same kind of pixels as the first, finest first."""
    first = series.levels[0].keyframe
    for level in series.levels:
        page = level.keyframe
        if page.dtype == first.dtype and page.samplesperpixel == first.samplesperpixel:
            yield page


def _pixel_size(file: Any, page: Any) -> PixelSize:
    if file.is_ome:
        found = _ome_pixel_size(file.ome_metadata)
        if found.mpp is not None:
            return found
    if file.is_svs:
        found = _aperio_pixel_size(page.description)
        if found.mpp is not None:
            return found
    unit = page.tags.get("ResolutionUnit")
    micrometres = {2: 25_400.0, 3: 10_000.0}.get(int(unit.value) if unit is not None else 2)
    x, y = (_ratio(page.tags.get(name)) for name in ("XResolution", "YResolution"))
    if micrometres is None or (x is None and y is None):
        return PixelSize(None, "the TIFF tells none")
    return from_resolution(x, y, micrometres, "the TIFF tags")


def _ratio(tag: Any) -> float | None:
    if tag is None or not tag.value[1]:
        return None
    return tag.value[0] / tag.value[1]


def _ome_pixel_size(text: str | None) -> PixelSize:
    """From the first OME Pixels element; entities and DTDs in the XML are refused by the parser."""
    import defusedxml.ElementTree as ElementTree

    if not text:
        return PixelSize(None, "the OME-XML is empty")
    try:
        root = ElementTree.fromstring(text)
    except Exception as error:  # a parse error, or one of defusedxml's refusals
        return PixelSize(None, f"the OME-XML cannot be read ({error})")
    factors = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "inch": 25_400.0}
    for element in root.iter():
        if element.tag.rsplit("}", 1)[-1] == "Pixels":
            sizes = []
            for axis in "XY":
                try:
                    factor = factors[element.get(f"PhysicalSize{axis}Unit", "µm")]
                    sizes.append(float(element.get(f"PhysicalSize{axis}", "nan")) * factor)
                except (KeyError, ValueError):
                    sizes.append(float("nan"))
            return believable(sizes[0], sizes[1], "the OME-XML")
    return PixelSize(None, "the OME-XML tells none")


def _aperio_pixel_size(description: str) -> PixelSize:
    for part in description.split("|"):
        key, _, value = part.partition("=")
        if key.strip() == "MPP":
            try:
                return believable(float(value), float(value), "the Aperio header")
            except ValueError:
                break
    return PixelSize(None, "the Aperio header tells none")


class TiffBackend:
    """The levels of a TIFF; regions are put together from decoded tiles or strips, the latest of which are kept."""

    name = "tifffile"
    bounds: tuple[int, int, int, int] | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, file: Any, levels: list[_TiffLevel], pixel_size: PixelSize) -> None:
        self._file = file
        self._levels = levels
        self.sizes: tuple[tuple[int, int], ...] = tuple((level.width, level.height) for level in levels)
        self.pixel_size = pixel_size
        self.is_ome = bool(file.is_ome)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        return self._levels[level].read(x, y, width, height)

    def close(self) -> None:
        self._file.close()


class _TiffLevel:
    """One page, cut into tiles or strips ('segments'), of which one plane per sample where samples lie apart."""

    def __init__(self, file: Any, lock: threading.Lock, page: Any) -> None:
        self._page = page
        self._handle = file.filehandle
        self._lock = lock  # of the file, whose position all levels share
        self._cache: OrderedDict[int, np.ndarray | None] = OrderedDict()
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self._apart = page.planarconfig == 2 and page.samplesperpixel > 1
        if page.is_tiled:
            self._tile = (int(page.tilewidth), int(page.tilelength))
        else:
            self._tile = (self.width, int(min(page.rowsperstrip or self.height, self.height)))
        self._across = -(-self.width // self._tile[0])
        self._down = -(-self.height // self._tile[1])

    def check(self, file_size: int) -> None:
        """Refuse what cannot be decoded, before anybody relies on it."""
        page = self._page
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        needed = self._across * self._down * (page.samplesperpixel if self._apart else 1)
        if max(ends, default=0) > file_size or len(ends) < needed:
            raise SlideError("cut short: its tiles lie beyond the end of the file", remedy="Copy or export it again")
        if self._tile[0] * self._tile[1] * page.samplesperpixel > _MAX_SEGMENT_BYTES:
            raise SlideError(f"its {self.width} x {self.height} pixels are one piece", remedy=_CONVERT)
        try:
            self._segment(self._down // 2 * self._across + self._across // 2)
        except SlideError:
            raise
        except Exception as error:
            raise SlideError(f"its compression is not supported ({error})", remedy=_CONVERT) from error

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        samples = self._page.samplesperpixel
        image = np.zeros((height, width, samples), np.uint8)
        tile_w, tile_h = self._tile
        planes = range(samples) if self._apart else (None,)
        for row in range(y // tile_h, (y + height - 1) // tile_h + 1):
            for column in range(x // tile_w, (x + width - 1) // tile_w + 1):
                for plane in planes:
                    index = row * self._across + column + (plane or 0) * self._across * self._down
                    part = self._segment(index)
                    left, top = column * tile_w, row * tile_h
                    x0, x1 = max(x, left), min(x + width, left + tile_w)
                    y0, y1 = max(y, top), min(y + height, top + tile_h)
                    target = image[y0 - y : y1 - y, x0 - x : x1 - x]
                    if plane is not None:
                        target = target[..., plane : plane + 1]
                    if part is None:  # a tile that was never written: sparse TIFFs leave glass out
                        target[...] = 255
                    else:
                        target[...] = part[y0 - top : y1 - top, x0 - left : x1 - left]
        return on_white(image) if samples == 4 else image

    def _segment(self, index: int) -> np.ndarray | None:
        """Decoded samples (height, width, samples) of one tile or strip."""
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
            page = self._page
            size = page.databytecounts[index]
            data = None
            if size:
                self._handle.seek(page.dataoffsets[index])
                data = self._handle.read(size)
        part = None if data is None else self._decode(data, index)
        with self._lock:
            self._cache[index] = part
            keep = max(4, _CACHE_BYTES // (self._tile[0] * self._tile[1] * 3))
            while len(self._cache) > keep:
                self._cache.popitem(last=False)
        return part

    def _decode(self, data: bytes, index: int) -> np.ndarray:
        page = self._page
        try:
            decoded, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        except Exception as error:  # imagecodecs raises one error class per codec
            raise SlideError(f"a tile cannot be decoded ({error})", remedy="Copy or export it again") from error
        if decoded is None:
            raise SlideError("a tile is missing", remedy="Copy or export it again")
        return decoded[0]
