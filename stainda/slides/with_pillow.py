"""Plain images as slides of one level: PNG, JPEG, WebP, BMP; very large ones through libvips' disc cache."""

from __future__ import annotations

import re
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stainda.arrays import Array
from stainda.errors import SlideError
from stainda.slides.backend import PixelSize
from stainda.slides.pixel_size import from_resolution
from stainda.slides.rules import Colour, Pixels, refuse_unless_rgb
from stainda.slides.with_openslide import on_white

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "JPEG2000", "PPM")
# a plain image is decoded whole; above this (540 MB) libvips decodes it to a temporary file; above the second, none is
MAX_PIXELS_IN_MEMORY = 180_000_000
MAX_PIXELS = 4_000_000_000
_CONVERT = "Convert it to a tiled pyramid first: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --bigtiff"
_loading = threading.Lock()


def open_image(path: Path) -> ArrayBackend | VipsBackend:
    """Decode a plain image.

    Raises:
        SlideError: not an image, not 8-bit RGB, truncated, or so large that it must be converted first.
    """
    from PIL import Image, ImageFile, UnidentifiedImageError

    Image.init()
    with _loading:
        # other packages in the process set these; a truncated picture must never pass for a whole one
        truncated, limit = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = Image.open(path, formats=FORMATS)
                with image:
                    return _decoded(path, image)
        except UnidentifiedImageError as error:
            raise SlideError(
                "neither a slide nor an image that can be read",
                remedy="Give a format OpenSlide reads, TIFF, PNG or JPEG; if it is one of these, it is damaged",
            ) from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise SlideError(f"damaged or cut short ({error})", remedy="Copy or export it again") from error
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = truncated, limit


def _decoded(path: Path, image: Any) -> ArrayBackend | VipsBackend:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise SlideError(f"claims {width} x {height} pixels, more than a plain image may have here", remedy=_CONVERT)
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise SlideError(f"holds {image.n_frames} pictures, not one", remedy="Save the one that is meant on its own")
    refuse_unless_rgb(_pixels(path, image))
    notes: tuple[str, ...] = ()
    if image.getexif().get(0x0112, 1) not in (0, 1):
        notes = ("its EXIF orientation is not applied: coordinates are those of the stored pixels, as in QuPath",)
    pixel_size = _pixel_size(image)
    if width * height > MAX_PIXELS_IN_MEMORY:
        return _through_vips(path, pixel_size, notes)
    image.load()
    if image.mode == "RGB" and "transparency" not in image.info:
        array = np.asarray(image)
    else:
        array = on_white(np.asarray(image.convert("RGBA")))
    return ArrayBackend(array, pixel_size, notes)


def _pixels(path: Path, image: PILImage) -> Pixels:
    """How the file stores its pixels; Pillow tells the mode it decodes to, which hides 16 bits and 5-bit colours."""
    colours: dict[str, Colour] = {
        "RGB": "rgb", "RGBA": "rgb", "RGBX": "rgb", "L": "grey", "LA": "grey", "La": "grey", "I": "grey",
        "I;16": "grey", "I;16B": "grey", "I;16L": "grey", "F": "grey", "1": "black and white", "P": "palette",
        "PA": "palette", "CMYK": "cmyk",
    }  # fmt: skip
    colour = colours.get(image.mode, "other")
    return Pixels(bits=_bits(path, image), colour=colour, samples=len(image.getbands()), colour_name=image.mode)


def _bits(path: Path, image: PILImage) -> int:
    """Bits per sample as the file's header has them."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    if image.mode.startswith(("I", "F")):
        return 16
    if image.format == "PNG":
        return 16 if head[24] > 8 else 8  # fewer bits are greyscale or palette, which are recognised by the mode
    if image.format == "BMP" and len(head) > 30:
        return 5 if int.from_bytes(head[28:30], "little") == 16 else 8
    if image.format == "PPM":
        numbers = re.findall(rb"\d+", re.sub(rb"#[^\n]*", b"", head[2:200]))
        return 16 if head[:2] in (b"P3", b"P6") and int(numbers[2]) > 255 else 8
    if image.format == "JPEG2000":
        at = head.find(b"\xff\x4f\xff\x51")
        return (head[at + 42] & 0x7F) + 1 if 0 <= at < len(head) - 42 else 8
    return 8


def _pixel_size(image: PILImage) -> PixelSize:
    dpi = image.info.get("dpi")
    if not dpi or image.info.get("jfif_unit") == 0:
        return PixelSize(None, f"a {image.format} tells none")
    return from_resolution(float(dpi[0]), float(dpi[1]), 25_400, f"the {image.format} header")


class ArrayBackend:
    """A decoded image in memory."""

    name = "pillow"

    def __init__(self, array: Array, pixel_size: PixelSize, notes: tuple[str, ...] = ()) -> None:
        self._array = array
        self.sizes: tuple[tuple[int, int], ...] = ((array.shape[1], array.shape[0]),)
        self.pixel_size = pixel_size
        self.bounds: tuple[int, int, int, int] | None = None
        self.notes = notes

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Array:
        return self._array[y : y + height, x : x + width].copy()

    def close(self) -> None:
        self._array = np.empty((0, 0, 3), np.uint8)


def _through_vips(path: Path, pixel_size: PixelSize, notes: tuple[str, ...]) -> VipsBackend:
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise SlideError("too large to decode in memory, and libvips is not installed", remedy=_CONVERT) from error
    try:
        image = pyvips.Image.new_from_file(str(path), access="random", fail_on="truncated")
        image = image.icc_transform("srgb") if image.interpretation == "cmyk" else image.colourspace("srgb")
        return VipsBackend(image, pixel_size, notes)
    except pyvips.Error as error:
        raise SlideError(
            f"damaged or cut short ({str(error).splitlines()[0]})", remedy="Copy or export it again"
        ) from error


class VipsBackend:
    """A large plain image that libvips decodes once, to a temporary file, and reads regions from."""

    name = "libvips"

    def __init__(self, image: Any, pixel_size: PixelSize, notes: tuple[str, ...] = ()) -> None:
        self._image = image.flatten(background=255) if image.hasalpha() else image
        self.sizes: tuple[tuple[int, int], ...] = ((image.width, image.height),)
        self.pixel_size = pixel_size
        self.bounds: tuple[int, int, int, int] | None = None
        self.notes = notes
        self._lock = threading.Lock()

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Array:
        import pyvips

        try:
            with self._lock:
                return self._image.crop(x, y, width, height).numpy()[..., :3].astype(np.uint8)
        except pyvips.Error as error:
            raise SlideError(f"damaged or cut short ({str(error).splitlines()[0]})", remedy="Copy it again") from error

    def close(self) -> None:
        self._image = None
