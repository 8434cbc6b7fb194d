"""Opening of a slide: OpenSlide first, then our own TIFF reader, then plain images, else an error."""

from __future__ import annotations

import functools
import math
from pathlib import Path

from stainda.errors import SlideError
from stainda.names import ending
from stainda.slides.backend import Backend
from stainda.slides.jpeg_tiles import jpeg_tiles
from stainda.slides.slide import Slide
from stainda.slides.tiff_structure import TiffPicture, judge_scanner_tiff, open_picture, opened
from stainda.slides.with_openslide import OpenSlideBackend, judge_properties, open_with_openslide
from stainda.slides.with_tifffile import Undecodable, read_picture

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WITH_OPENSLIDE_ONLY = {".mrxs", ".ndpi", ".vms", ".vmu", ".scn", ".bif", ".czi", ".dcm", ".svslide"}


def open_slide(path: str | Path, mpp: float | None = None) -> Slide:
    """Open a slide for reading.

    Args:
        path: anything OpenSlide reads; TIFF, OME-TIFF, pyramidal TIFF; PNG, JPEG, WebP, BMP. Pixels must be one 8-bit
            RGB picture (alpha is laid on white), as :mod:`stainda.slides.rules` has it for every library.
        mpp: micrometres per level-0 pixel, where the file does not tell or tells wrongly.

    Raises:
        SlideError: no such file; not a slide; not RGB (fluorescence channels, greyscale, palette, 16 bit); damaged.
            The reason is in the message.
    """
    path = Path(path)
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise SlideError(
            f"mpp must be a positive number, not {mpp}",
            file=path,
            remedy="Give micrometres per pixel (--mpp, or the manifest's column mpp)",
        )
    if path.is_dir():
        raise SlideError("this is a folder, not a slide", file=path, remedy="Name the slide's file")
    if not path.is_file():
        raise SlideError("there is no such file", file=path, remedy="Check the path")
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise SlideError(f"cannot be read ({error.strerror})", file=path, remedy="Check its permissions") from error
    if not head:
        raise SlideError("the file is empty", file=path, remedy="Copy or export it again")
    try:
        return Slide(path, _backend(path, head), mpp, open_slide)
    except SlideError as error:
        raise SlideError(error.message, file=path, remedy=error.remedy) from error


@functools.cache
def has_openslide() -> bool:
    """Whether OpenSlide can be used: its Python part without its library is as good as none."""
    try:
        import openslide  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def _backend(path: Path, head: bytes) -> Backend:
    """The rules are held before a library is chosen: OpenSlide turns any TIFF into 8-bit RGB without a word."""
    is_tiff = head[:4] in _TIFF
    scan, refusal = _openslide(path)
    if scan is not None and scan.vendor != "generic-tiff":
        try:
            judge_scanner_tiff(path) if is_tiff else judge_properties(scan.properties)
        except SlideError:
            scan.close()
            raise
        if scan.vendor == "aperio":
            with opened(path) as file:
                scan.tiles = jpeg_tiles(path, file, scan.sizes)
        return scan
    if is_tiff:
        try:
            return _plain_tiff(path, scan)
        except Undecodable as error:
            raise refusal or error from error
        except SlideError:
            if scan is not None:
                scan.close()
            raise
    if refusal is not None:
        raise refusal
    if not has_openslide() and ending(path) in _WITH_OPENSLIDE_ONLY:
        raise SlideError(
            f"reading {ending(path)} needs OpenSlide, which is not installed", remedy="pip install 'stainda[slides]'"
        )
    from stainda.slides.with_pillow import open_image

    return open_image(path)


def _openslide(path: Path) -> tuple[OpenSlideBackend | None, SlideError | None]:
    if not has_openslide():
        return None, None
    try:
        return open_with_openslide(path), None
    except SlideError as error:
        return None, error


def _plain_tiff(path: Path, scan: OpenSlideBackend | None) -> Backend:
    """A TIFF of no scanner: OpenSlide may read its pixels where it shows the picture that was judged, and all of it.

    It sees neither OME-XML nor reductions in SubIFDs, takes the first tiled page for the main picture, turns tiles
    where the TIFF's orientation says so, and shows the first plane where red, green and blue lie apart.
    """
    picture = open_picture(path)
    shown = scan is not None and scan.sizes[0] == _size(picture) and picture.plain
    if scan is None or not shown or picture.is_ome or len(picture.levels) > len(scan.sizes):
        try:
            own = read_picture(path, picture)
        except Undecodable:
            if scan is None or not shown:
                raise
        else:
            if scan is not None:
                scan.close()
            return own
    scan.tiles = jpeg_tiles(path, picture.file, scan.sizes)
    picture.file.close()
    scan.pixel_size, scan.notes = picture.pixel_size, (*scan.notes, *picture.notes)
    return scan


def _size(picture: TiffPicture) -> tuple[int, int]:
    page = picture.levels[0][0]
    return int(page.imagewidth), int(page.imagelength)
