"""One interface to the pixels of a slide, whatever file they lie in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from stainda.arrays import Array
from stainda.errors import UNREADABLE, SlideError
from stainda.slides.backend import Backend

# a region is resampled in pieces of at most so many source pixels, so that memory does not grow with the slide
_PIECE_PIXELS = 2048 * 2048

Reopen = Callable[[Path, float | None], "Slide"]


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; ``downsample`` is level-0 pixels per pixel of this level."""

    width: int
    height: int
    downsample: float


class Slide:
    """An open slide. Coordinates are level-0 pixels, x to the right, y down; images are RGB uint8 (height, width, 3).

    Made by :func:`stainda.slides.open_slide`; a context manager. It can be pickled: the copy opens the file again with
    ``reopen``, a function of path and mpp.
    Several threads may read one slide; processes open their own.

    Attributes:
        path: the file.
        size: width and height of level 0.
        levels: resolutions, finest first.
        mpp: micrometres per level-0 pixel, or ``None`` where the file does not tell credibly.
        mpp_origin: where ``mpp`` comes from, or why it is not known.
        bounds: (x, y, width, height) of the scanned part, level-0 pixels; coordinates do **not** start there.
        backend: the library that reads it.
        notes: what a person should know about how the file was read.
    """

    def __init__(
        self, path: str | Path, backend: Backend, mpp: float | None = None, reopen: Reopen | None = None
    ) -> None:
        self.path = Path(path)
        self._reopen = reopen
        self._backend = backend
        self._override = mpp
        self.backend = backend.name
        self.size = backend.sizes[0]
        self._stored = _reductions(backend.sizes)  # which of the stored pictures each level is
        self.levels = tuple(_level(self.size, backend.sizes[i]) for i in self._stored)
        self.mpp = backend.pixel_size.mpp if mpp is None else float(mpp)
        self.mpp_origin = backend.pixel_size.origin if mpp is None else "given"
        self.bounds = backend.bounds or (0, 0, *self.size)
        self.notes = backend.notes
        self._closed = False

    def read(self, x: float, y: float, width: int, height: int, level: int = 0) -> Array:
        """The pixels of one level from the level-0 point (x, y); ``width`` and ``height`` are pixels of that level.

        What lies outside the slide is white.

        Raises:
            SlideError: there is no such level, the size is negative, or the file is damaged there.
        """
        if not 0 <= level < len(self.levels):
            raise SlideError(f"there is no level {level}; levels are 0 to {len(self.levels) - 1}", file=self.path)
        if width < 0 or height < 0 or not (math.isfinite(x) and math.isfinite(y)):
            raise SlideError(f"no such region: x {x}, y {y}, width {width}, height {height}", file=self.path)
        at = self.levels[level]
        left = round(x * at.width / self.size[0])
        top = round(y * at.height / self.size[1])
        return self._read_level(level, left, top, int(width), int(height))

    def read_scaled(self, x: float, y: float, width: int, height: int, downsample: float) -> Array:
        """A region at any scale: output pixel (i, j) covers level-0 pixels from (x + i·downsample, y + j·downsample).

        Read from the coarsest level that is at least as fine, then averaged down (up-sampled bilinearly where
        ``downsample`` < 1). ``width`` and ``height`` are output pixels. Memory is bounded however large the region is.

        Raises:
            SlideError: ``downsample`` is not positive, or the file is damaged there.
        """
        if not (math.isfinite(downsample) and downsample > 0):
            raise SlideError(f"downsample must be positive, not {downsample}", file=self.path)
        fitting = [i for i, at in enumerate(self.levels) if at.downsample <= downsample * 1.001]
        level = max(fitting, key=lambda i: self.levels[i].downsample, default=0)
        at = self.levels[level]
        scale = np.array([self.size[0] / at.width, self.size[1] / at.height])
        step = downsample / scale  # source pixels per output pixel
        origin = np.array([x, y], float) / scale
        image = np.empty((int(height), int(width), 3), np.uint8)
        side = max(16, int(math.sqrt(_PIECE_PIXELS) / max(1.0, float(step.max()))))
        for top in range(0, int(height), side):
            for left in range(0, int(width), side):
                rows, columns = min(side, int(height) - top), min(side, int(width) - left)
                start = origin + step * (left, top)
                image[top : top + rows, left : left + columns] = self._resample(level, start, step, columns, rows)
        return image

    def thumbnail(self, max_dim: int = 1024) -> tuple[Array, float]:
        """The whole slide at most ``max_dim`` pixels on its longer side, and its downsample (at least 1)."""
        downsample = max(1.0, max(self.size) / max_dim)
        width, height = (max(1, math.ceil(side / downsample - 1e-9)) for side in self.size)
        return self.read_scaled(0, 0, width, height, downsample), downsample

    def require_mpp(self, why: str) -> float:
        """The mpp, or an error that says what it is needed for.

        Raises:
            SlideError: the pixel size is not known.
        """
        if self.mpp is None:
            raise SlideError(
                f"the pixel size is not known ({self.mpp_origin}), but is needed {why}",
                file=self.path,
                remedy="Write it into the manifest's column mpp (micrometres per pixel)",
            )
        return self.mpp

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._backend.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Reopen, tuple[Path, float | None]]:
        if self._reopen is None:
            raise TypeError("this slide was not made by open_slide and cannot be pickled")
        return self._reopen, (self.path, self._override)

    def __repr__(self) -> str:
        return f"Slide({self.path.name!r}, {self.size[0]} x {self.size[1]}, mpp={self.mpp}, {self.backend})"

    def _read_level(self, level: int, left: int, top: int, width: int, height: int) -> Array:
        if self._closed:
            raise SlideError("the slide was closed", file=self.path)
        at = self.levels[level]
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, at.width), min(top + height, at.height)
        if x0 >= x1 or y0 >= y1:
            return np.full((height, width, 3), 255, np.uint8)
        try:
            inside = self._backend.read(self._stored[level], x0, y0, x1 - x0, y1 - y0)
        except SlideError as error:
            raise SlideError(f"{UNREADABLE}: {error.message}", file=self.path, remedy=error.remedy) from error
        if inside.shape[:2] == (height, width):
            return inside
        image = np.full((height, width, 3), 255, np.uint8)
        image[y0 - top : y1 - top, x0 - left : x1 - left] = inside
        return image

    def _resample(self, level: int, start: Array, step: Array, width: int, height: int) -> Array:
        """Output pixels from source coordinates ``start`` of a level, ``step`` source pixels each."""
        stop = start + step * (width, height)
        if _near(step, 1, 1e-6) and _near(start, np.round(start), 1e-3):
            left, top = (int(v) for v in np.round(start))
            return self._read_level(level, left, top, width, height)
        whole = _near(step, np.round(step), 1e-6) and _near(start, np.round(start), 1e-6)
        if whole:
            kind, margin = Image.Resampling.BOX, np.zeros(2, int)
        else:
            kind = Image.Resampling.HAMMING if step.min() >= 1 else Image.Resampling.BILINEAR
            margin = np.ceil(np.maximum(step, 1)).astype(int) + 1
        low, high = np.floor(start + 1e-6).astype(int), np.ceil(stop - 1e-6).astype(int)
        # pixels beyond the region are read for the filter, but never white from beyond the slide
        size = (self.levels[level].width, self.levels[level].height)
        low = np.minimum(low, np.maximum(low - margin, 0))
        high = np.maximum(high, np.minimum(high + margin, size))
        across, down = (int(v) for v in high - low)
        source = self._read_level(level, int(low[0]), int(low[1]), across, down)
        left, top, right, bottom = np.clip([*(start - low), *(stop - low)], 0, [across, down, across, down]).tolist()
        return np.asarray(Image.fromarray(source).resize((width, height), kind, box=(left, top, right, bottom)))


def _near(values: Array, wanted: Array | float, pixels: float) -> bool:
    """Whether values are as wanted, to so many pixels, however large they are."""
    return bool(np.allclose(values, wanted, rtol=0, atol=pixels))


def _level(full: tuple[int, int], size: tuple[int, int]) -> Level:
    return Level(*size, 0.5 * (full[0] / size[0] + full[1] / size[1]))


def _reductions(sizes: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """The pictures that are smaller copies of the first, by their proportions (to a pixel); macro pictures are not."""
    kept = [0]
    for index, (width, height) in enumerate(sizes[1:], start=1):
        scale = sizes[0][0] / width
        if abs(sizes[0][1] / scale - height) < 1.5 + 0.01 * height and width < sizes[kept[-1]][0]:
            kept.append(index)
    return tuple(kept)
