"""Mask images: 0 is background, every other value a class; separate pieces of a value are separate objects.

The names of classes lie in the PNG's text (``stainda_classes``), or are ``class_1``, ``class_2`` …; a mask smaller than
the slide is scaled to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stainda.annotations.formats.frame import Problems, SlideFrame, require_size
from stainda.annotations.guarded import check_file
from stainda.annotations.labels import trace
from stainda.annotations.raster import PixelGrid, rasterise
from stainda.annotations.records import ShapeRecords, make_records
from stainda.arrays import Array
from stainda.errors import AnnotationError
from stainda.files import whole_file
from stainda.names import format_ending

if TYPE_CHECKING:
    import geopandas as gpd

_KEY = "stainda_classes"
_MAX_PIXELS = 400_000_000
_SMALLER = "Save it compressed (PNG), or smaller: a mask is scaled to the slide"
_PICTURES = ("PNG", "TIFF", "BMP", "JPEG")  # no other decoder is let near a file that may be hostile


def looks_like(path: Path, head: str) -> bool:
    return format_ending(path) in (".png", ".tif", ".tiff")


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    from PIL import Image

    check_file(path, remedy=_SMALLER)
    try:
        with Image.open(path, formats=_PICTURES) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise AnnotationError(
                    f"{image.width} x {image.height} pixels are too many for a mask", file=path, remedy=_SMALLER
                )
            names = json.loads(image.info.get(_KEY, "[]"))
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("its names of classes are no list of names")
            if image.mode in ("RGB", "RGBA") and np.ptp(np.asarray(image.convert("RGB")), axis=2).any():
                raise AnnotationError("a colour picture, not a mask of numbers", file=path, remedy="Save it indexed")
            mask = np.asarray(image.convert("L") if image.mode in ("RGB", "RGBA", "1", "LA") else image)
    except (OSError, SyntaxError, ValueError, RecursionError, Image.DecompressionBombError) as error:
        raise AnnotationError(f"the mask cannot be read ({error})", file=path) from error
    if mask.dtype.kind in "fi" and not (np.isfinite(mask) & (mask == np.round(mask)) & (mask >= 0)).all():
        raise AnnotationError("holds fractions or negative numbers, which are no numbers of classes", file=path)
    scale = 1.0
    if slide is not None:
        scale = slide.size[0] / mask.shape[1]
        if not _fits((mask.shape[1], mask.shape[0]), slide.size):
            raise AnnotationError(
                f"{mask.shape[1]} x {mask.shape[0]} pixels do not fit a slide of {slide.size[0]} x {slide.size[1]}",
                file=path,
                remedy="Is it this slide's?",
            )
    values = [int(value) for value in np.unique(mask) if value]
    if len(values) > 254:
        raise AnnotationError(f"{len(values)} different values are no classes", file=path, remedy="Is it a mask?")
    return _objects(mask, values, names, scale)


def _objects(mask: Array, values: list[int], names: list[str], scale: float) -> ShapeRecords:
    """Pieces of equal values, connected over pixel edges: class by class, numbered within each by their first pixel."""
    from skimage.measure import label

    pieces = label(mask, connectivity=1, background=0)
    numbers, first = np.unique(pieces, return_index=True)
    value_of = mask.ravel()[first[numbers > 0]].astype(int)
    by_class = np.argsort(value_of, kind="stable")
    count = np.bincount(value_of)
    behind = np.repeat(np.cumsum(count) - count, count)  # pieces of the classes before
    named = {
        value: names[value - 1] if value <= len(names) else "" if values == [value] else f"class_{value}"
        for value in values
    }
    return make_records(
        trace(pieces, downsample=scale)[1][by_class],
        [named[value] for value in value_of[by_class].tolist()],
        properties=[{"label": number} for number in (np.arange(len(behind)) - behind + 1).tolist()],
    )


def is_of_scanned_part(path: Path, slide: SlideFrame | None, bounds: tuple[int, int, int, int] | None) -> bool:
    """Whether a picture has the proportions of the scanned part (x, y, width, height) and not those of the slide."""
    from PIL import Image

    if slide is None or bounds is None:
        return False
    check_file(path, remedy=_SMALLER)
    try:
        with Image.open(path, formats=_PICTURES) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False  # the reader says what is wrong with it
    if (width, height) in (slide.size, bounds[2:]):
        return (width, height) == bounds[2:]
    return _fits((width, height), bounds[2:]) and not _fits((width, height), slide.size)


def _fits(picture: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether a picture is the size, or that made smaller."""
    scale = size[0] / picture[0]
    return abs(size[1] / picture[1] - scale) <= 0.02 * scale


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    width, height = require_size(slide, path, "for the size of the mask")
    if width * height > _MAX_PIXELS:
        raise AnnotationError(
            f"a mask of {width} x {height} pixels is too large", file=path, remedy="Write run lengths"
        )
    names = list(dict.fromkeys(shapes["class"]))
    mask = rasterise(shapes, names, PixelGrid(0, 0, width, height, 1))
    text = PngInfo()
    text.add_text(_KEY, json.dumps(names))
    with whole_file(path) as aside:
        if format_ending(path) == ".png":
            Image.fromarray(mask).save(aside, format="PNG", pnginfo=text)
        else:
            Image.fromarray(mask).save(aside, format="TIFF", compression="tiff_deflate")
