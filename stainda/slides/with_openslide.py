"""Slides that OpenSlide knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stainda.arrays import Array
from stainda.errors import SlideError
from stainda.slides.backend import PixelSize
from stainda.slides.jpeg_tiles import JpegTiles
from stainda.slides.pixel_size import believable
from stainda.slides.rules import RGB_ONLY

if TYPE_CHECKING:
    from openslide import OpenSlide


def on_white(rgba: Array, premultiplied: bool = False) -> Array:
    """RGBA uint8 laid on white: RGB uint8. Unscanned areas and glass become one colour.

    Colours are as they are (straight alpha), or ``premultiplied`` with the alpha already.
    """
    alpha = rgba[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    weight = alpha.astype(np.uint16)
    if premultiplied:
        return np.minimum(rgba[..., :3] + (255 - weight), 255).astype(np.uint8)
    return ((rgba[..., :3].astype(np.uint16) * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)


def open_with_openslide(path: Path) -> OpenSlideBackend | None:
    """The slide, or ``None`` where OpenSlide does not know the format.

    Raises:
        SlideError: OpenSlide knows the format but the file is damaged or of a kind it cannot read.
    """
    import openslide

    try:
        if openslide.OpenSlide.detect_format(str(path)) is None:
            return None
        slide = openslide.OpenSlide(str(path))
    except openslide.OpenSlideError as error:
        raise SlideError(
            f"OpenSlide refuses it: {_reason(error, path)}", remedy="Export it again from the scanner"
        ) from error
    backend = OpenSlideBackend(slide, path)
    try:
        width, height = backend.sizes[-1]
        backend.read(len(backend.sizes) - 1, width // 2, height // 2, 1, 1)
    except SlideError:
        backend.close()
        raise
    return backend


class OpenSlideBackend:
    """OpenSlide's handle; safe to read from several threads.

    Attributes:
        tiles: reads the levels whose tiles are plain JPEG, with the same result; OpenSlide reads the others.
    """

    name = "openslide"

    def __init__(self, slide: OpenSlide, path: Path) -> None:
        self._slide = slide
        self._path = path
        self.sizes: tuple[tuple[int, int], ...] = tuple(slide.level_dimensions)
        properties = slide.properties
        self.properties: Mapping[str, str] = properties
        self.pixel_size = _pixel_size(properties)
        self.bounds = _bounds(properties)
        vendor = properties.get("openslide.vendor", "unknown")
        self.vendor = vendor
        self.notes: tuple[str, ...] = (f"vendor {vendor}",)
        self.tiles: JpegTiles | None = None
        self._downsamples: tuple[float, ...] = tuple(slide.level_downsamples)

    def read(self, level: int, x: int, y: int, width: int, height: int, into: Array | None = None) -> Array:
        """As of every backend; JPEG tiles are decoded ``into`` an array of that shape, which then is the result."""
        import openslide

        # OpenSlide takes the corner in level-0 pixels; the middle of the corner pixel lands in it whatever the rounding
        ratio_x = self.sizes[0][0] / self.sizes[level][0]
        ratio_y = self.sizes[0][1] / self.sizes[level][1]
        corner = (round(x * ratio_x), round(y * ratio_y))
        if self.tiles is not None and level in self.tiles.levels and self._on_whole_pixels(level, x, y, corner):
            pixels = self.tiles.read(level, x, y, width, height, into)
            if pixels is not None:
                return pixels
        try:
            return on_white(np.asarray(self._slide.read_region(corner, level, (width, height))))
        except openslide.OpenSlideError as error:
            raise SlideError(
                f"damaged at x {corner[0]}, y {corner[1]} (level {level}): {_reason(error, self._path)}",
                remedy="Copy it again, or export it again from the scanner",
            ) from error

    def close(self) -> None:
        self._slide.close()
        if self.tiles is not None:
            self.tiles.close()

    def _on_whole_pixels(self, level: int, x: int, y: int, corner: tuple[int, int]) -> bool:
        """Whether OpenSlide would show stored pixels; where its corner lies between them it interpolates."""
        downsample = self._downsamples[level]
        return (corner[0] / downsample, corner[1] / downsample) == (x, y)


def judge_properties(properties: Mapping[str, str]) -> None:
    """Refuse fluorescence and more than 8 bits in formats that are no TIFF, as far as the scanner tells.

    OpenSlide shows fluorescence channels of MRXS as red, green and blue, and scales 48-bit CZI down. (Of DICOM it
    reads 8-bit colour alone and refuses the rest itself.)

    Raises:
        SlideError: not an 8-bit RGB brightfield scan.
    """
    kind = properties.get("mirax.GENERAL.SLIDE_TYPE", "")
    if "FLUORESCENCE" in kind.upper():
        raise SlideError("a fluorescence scan, not RGB", remedy="stainda needs a brightfield scan of a stained section")
    depth = properties.get("mirax.GENERAL.VIMSLIDE_SLIDE_BITDEPTH", "8")
    if depth.isdigit() and int(depth) > 8:
        raise SlideError(f"{depth} bits per sample, not 8-bit RGB", remedy=RGB_ONLY)
    pixel_type = next((value for key, value in properties.items() if key.endswith("Image.PixelType")), "Bgr24")
    if pixel_type.lower() not in ("bgr24", "bgra32"):
        raise SlideError(f"pixels of type {pixel_type}, not 8-bit RGB", remedy=RGB_ONLY)


def _reason(error: Exception, path: Path) -> str:
    return str(error).replace(str(path), path.name).rstrip(".")


def _pixel_size(properties: Mapping[str, str]) -> PixelSize:
    def number(key: str) -> float | None:
        try:
            return float(properties[key])
        except (KeyError, ValueError):
            return None

    return believable(number("openslide.mpp-x"), number("openslide.mpp-y"), "the slide file")


def _bounds(properties: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    try:
        x, y, width, height = (int(properties[f"openslide.bounds-{key}"]) for key in ("x", "y", "width", "height"))
    except (KeyError, ValueError):
        return None
    return x, y, width, height
