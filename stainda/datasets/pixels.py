"""Objects out of mask pictures that public data sets ship: binary, saved with loss, or one number per object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stainda.annotations.guarded import check_file
from stainda.annotations.labels import instances, outlines
from stainda.arrays import Array
from stainda.errors import AnnotationError, SlideError
from stainda.names import format_ending

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.annotations.formats.frame import SlideFrame

_MAX_BYTES = 2_000_000_000
_MAX_PIXELS = 400_000_000
_LARGEST = 2**53  # up to which floating-point numbers hold every whole one
_FINEST = 0.5
"""Slide pixels per pixel of a mask at least: a finer one is of another slide, or claims a size to fill the memory."""
_REMEDY = "Is it this slide's?"


def binary_objects(path: Path, slide: SlideFrame, cls: str) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    """Separate objects of a binary mask, also one saved as JPEG: a pixel belongs to an object above half the largest
    value of the mask, so that 0/1 and 0/255 are read alike, and what a JPEG smears is not."""
    mask, scale = _pixels(path, slide)
    largest = int(mask.max(initial=0))
    return outlines(instances(mask > largest / 2 if largest else mask > 0), downsample=scale, cls=cls), []


def labelled_objects(path: Path, slide: SlideFrame, cls: str) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    """One object per positive number of a label mask; touching objects stay apart."""
    labels, scale = _pixels(path, slide)
    return outlines(labels, downsample=scale, cls=cls), []


def _pixels(path: Path, slide: SlideFrame) -> tuple[Array, float]:
    """The mask as integers (height, width), and level-0 pixels per pixel of it.

    Raises:
        AnnotationError: not readable as one channel, too large, or not of the slide's proportions and size.
    """
    check_file(path, _MAX_BYTES)
    try:
        pixels = (_tiff if format_ending(path) in (".tif", ".tiff") else _picture)(path, slide)
    except SlideError as error:
        raise AnnotationError(f"the mask cannot be read: {error.message}", file=path, remedy=error.remedy) from error
    except AnnotationError:
        raise
    except Exception as error:  # tifffile and Pillow raise whatever a damaged structure leads to
        raise AnnotationError(f"the mask cannot be read ({error})", file=path) from error
    if pixels.ndim == 3:
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or not pixels.size:
        raise _no_numbers(pixels.shape, path)
    scale = slide.size[0] / pixels.shape[1]
    if np.can_cast(pixels.dtype, np.int32):
        return pixels.astype(np.int32), scale
    if pixels.dtype.kind not in "iuf" or not ((np.abs(pixels) < _LARGEST) & (pixels == np.round(pixels))).all():
        raise AnnotationError("the mask holds fractions or endless numbers, not numbers of objects", file=path)
    return pixels.astype(np.int64), scale


def _picture(path: Path, slide: SlideFrame) -> Array:
    from PIL import Image

    try:
        with Image.open(path) as image:
            _check_size(image.width, image.height, slide, path)
            return np.asarray(image.convert("L") if image.mode in ("RGB", "RGBA", "1", "LA") else image)
    except Image.DecompressionBombError as error:
        raise AnnotationError(f"the mask is too large ({error})", file=path) from error


def _tiff(path: Path, slide: SlideFrame) -> Array:
    """The finest level of a TIFF that is small enough."""
    from stainda.slides.tiff_structure import opened

    with opened(path) as tiff:
        levels = tiff.series[0].levels
        sizes = [(int(level.keyframe.imagewidth), int(level.keyframe.imagelength)) for level in levels]
        finest = next((at for at, (width, height) in enumerate(sizes) if width * height <= _MAX_PIXELS), -1)
        level, (width, height) = levels[finest], sizes[finest]
        _check_size(width, height, slide, path)
        shape = tuple(map(int, level.shape))
        channels = shape[:2] == (height, width) and shape[2:] in ((), (1,), (2,), (3,), (4,))
        if not channels and shape not in ((3, height, width), (4, height, width)):
            raise _no_numbers(shape, path)
        pixels = np.asarray(level.asarray())
    return pixels if channels else np.moveaxis(pixels, 0, -1)


def _check_size(width: int, height: int, slide: SlideFrame, path: Path) -> None:
    """Refuse a mask that is too large, or not one of the slide, before any pixel of it is decoded."""
    if width * height > _MAX_PIXELS:
        raise AnnotationError(
            f"{width} x {height} pixels are too many for a mask that is read at once", file=path,
            remedy="Write it as a pyramid, or convert it in QuPath",
        )  # fmt: skip
    scale = slide.size[0] / width if width and height else 0.0
    if scale < _FINEST or abs(slide.size[1] / height - scale) > 0.02 * scale:
        message = f"{width} x {height} pixels do not fit a slide of {slide.size[0]} x {slide.size[1]}"
        raise AnnotationError(message, file=path, remedy=_REMEDY)


def _no_numbers(shape: tuple[int, ...], path: Path) -> AnnotationError:
    return AnnotationError(f"a mask of the shape {shape} is no picture of numbers", file=path)
