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
        AnnotationError: not readable as one channel, too large, or not of the slide's proportions.
    """
    check_file(path, _MAX_BYTES)
    try:
        pixels = _tiff(path) if format_ending(path) in (".tif", ".tiff") else _picture(path)
    except SlideError as error:
        raise AnnotationError(f"the mask cannot be read: {error.message}", file=path, remedy=error.remedy) from error
    except AnnotationError:
        raise
    except Exception as error:  # tifffile and Pillow raise whatever a damaged structure leads to
        raise AnnotationError(f"the mask cannot be read ({error})", file=path) from error
    if pixels.ndim == 3:
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or not pixels.size:
        raise AnnotationError(f"a mask of the shape {pixels.shape} is no picture of numbers", file=path)
    if pixels.dtype.kind == "f" and not np.array_equal(pixels, np.round(pixels)):
        raise AnnotationError("the mask holds fractions, not numbers of objects", file=path)
    height, width = pixels.shape
    scale = slide.size[0] / width
    if abs(slide.size[1] / height - scale) > 0.02 * scale:
        message = f"{width} x {height} pixels do not fit a slide of {slide.size[0]} x {slide.size[1]}"
        raise AnnotationError(message, file=path, remedy=_REMEDY)
    return pixels.astype(np.int64 if pixels.dtype.itemsize > 4 else np.int32), scale


def _picture(path: Path) -> Array:
    from PIL import Image

    try:
        with Image.open(path) as image:
            _refuse_large(image.width, image.height, path)
            return np.asarray(image.convert("L") if image.mode in ("RGB", "RGBA", "1", "LA") else image)
    except Image.DecompressionBombError as error:
        raise AnnotationError(f"the mask is too large ({error})", file=path) from error


def _tiff(path: Path) -> Array:
    """The finest level of a TIFF that is small enough."""
    from stainda.slides.tiff_structure import opened

    with opened(path) as tiff:
        levels = tiff.series[0].levels
        fitting = [level for level in levels if int(np.prod(level.shape[:2])) <= _MAX_PIXELS]
        if not fitting:
            _refuse_large(levels[-1].shape[1], levels[-1].shape[0], path)
        pixels = np.asarray(fitting[0].asarray())
    return np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 and pixels.shape[0] in (3, 4) else pixels


def _refuse_large(width: int, height: int, path: Path) -> None:
    if width * height > _MAX_PIXELS:
        raise AnnotationError(
            f"{width} x {height} pixels are too many for a mask that is read at once", file=path,
            remedy="Write it as a pyramid, or convert it in QuPath",
        )  # fmt: skip
