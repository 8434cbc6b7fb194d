"""Deep-zoom tiles of slides, made when they are requested, with bounded memory."""

from __future__ import annotations

import io
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stainda.slides import Slide, open_slide

TILE = 512
OVERLAP = 1  # pixels shared with each neighbour, so that no seam shows where a section is turned
QUALITY = 92
CACHE_BYTES = 96 << 20
OPEN_SLIDES = 16
OVERVIEW = 2048
"""Tiles coarser than a picture of this many pixels are cut from it: a slide without pyramid is then read only once."""


@dataclass(frozen=True)
class Source:
    """A slide to be shown: its file, the pixel size the manifest gave it, and its size in level-0 pixels."""

    path: Path
    mpp: float | None
    size: tuple[int, int]

    @property
    def top(self) -> int:
        """The finest deep-zoom level: there a tile's pixels are those of the slide."""
        return math.ceil(math.log2(max(self.size)))


class _Open:
    """An open slide and its overview; one thread reads it at a time."""

    def __init__(self, source: Source) -> None:
        self.lock = threading.Lock()
        self._source = source
        self._slide: Slide | None = None
        self._overview: tuple[Image.Image, float] | None = None

    def read(self, x: float, y: float, width: int, height: int, downsample: float) -> Image.Image:
        with self.lock:
            if self._slide is None:
                self._slide = open_slide(self._source.path, self._source.mpp)
            if downsample <= 1 or downsample < max(self._source.size) / OVERVIEW:
                return Image.fromarray(self._slide.read_scaled(x, y, width, height, downsample))
            if self._overview is None:
                pixels, factor = self._slide.thumbnail(OVERVIEW)
                self._overview = Image.fromarray(pixels), factor
            picture, scale = self._overview
            box = (x / scale, y / scale, (x + width * downsample) / scale, (y + height * downsample) / scale)
            inside = (max(0.0, box[0]), max(0.0, box[1]), min(box[2], picture.width), min(box[3], picture.height))
            return picture.resize((width, height), Image.Resampling.BOX, box=inside)

    def close(self) -> None:
        with self.lock:
            if self._slide is not None:
                self._slide.close()
            self._slide, self._overview = None, None


class Tiles:
    """Tiles of several slides as JPEG. At most :data:`OPEN_SLIDES` stay open, :data:`CACHE_BYTES` of tiles are kept."""

    def __init__(self, sources: Sequence[Source], cache_bytes: int = CACHE_BYTES) -> None:
        self.sources = tuple(sources)
        self._limit = cache_bytes
        self._cache: OrderedDict[tuple[int, int, int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def tile(self, slide: int, level: int, column: int, row: int) -> bytes | None:
        """The JPEG of one tile; ``None`` where the slide has no such tile.

        Level 0 shows the slide as one pixel, each further one doubles it up to :attr:`Source.top`.

        Raises:
            SlideError: the slide cannot be read there.
        """
        box = self._box(slide, level, column, row)
        if box is None:
            return None
        key = (slide, level, column, row)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        picture = self._slide(slide).read(*box)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=QUALITY, subsampling=0)
        data = stream.getvalue()
        with self._lock:
            if key not in self._cache:
                self._cache[key] = data
                self._bytes += len(data)
            while self._bytes > self._limit and len(self._cache) > 1:
                self._bytes -= len(self._cache.popitem(last=False)[1])
        return data

    @property
    def cached_bytes(self) -> int:
        return self._bytes

    def close(self) -> None:
        with self._lock:
            handles, self._open = list(self._open.values()), OrderedDict()
        for handle in handles:
            handle.close()

    def _box(self, slide: int, level: int, column: int, row: int) -> tuple[float, float, int, int, float] | None:
        """Where a tile lies: level-0 x and y, its width and height in its own pixels, and its downsample."""
        if not (0 <= slide < len(self.sources) and 0 <= level <= self.sources[slide].top):
            return None
        source = self.sources[slide]
        downsample = 2.0 ** (source.top - level)
        width, height = (math.ceil(side / downsample) for side in source.size)
        if not (0 <= column * TILE < width and 0 <= row * TILE < height):
            return None
        left, top = max(0, column * TILE - OVERLAP), max(0, row * TILE - OVERLAP)
        right, bottom = min(width, (column + 1) * TILE + OVERLAP), min(height, (row + 1) * TILE + OVERLAP)
        return left * downsample, top * downsample, right - left, bottom - top, downsample

    def _slide(self, number: int) -> _Open:
        with self._lock:
            handle = self._open.setdefault(number, _Open(self.sources[number]))
            self._open.move_to_end(number)
            surplus = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - OPEN_SLIDES)]
        for old in surplus:
            old.close()
        return handle
