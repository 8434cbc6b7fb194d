"""Which library reads a file: OpenSlide first, then our own TIFF reader, then plain images, else an error."""

from __future__ import annotations

import functools
from pathlib import Path

from stainda.errors import SlideError
from stainda.names import ending
from stainda.slides.backend import Backend
from stainda.slides.jpeg_tiles import jpeg_tiles
from stainda.slides.tiff_structure import TiffPicture, judge_scanner_tiff, open_picture, opened
from stainda.slides.with_openslide import OpenSlideBackend, judge_properties, open_with_openslide
from stainda.slides.with_tifffile import Undecodable, read_picture

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WITH_OPENSLIDE_ONLY = {".mrxs", ".ndpi", ".vms", ".vmu", ".scn", ".bif", ".czi", ".dcm", ".svslide"}


def open_backend(path: Path) -> Backend:
    """The reader of a slide's file, in this process.

    The rules are held before a library is chosen: OpenSlide turns any TIFF into 8-bit RGB without a word.

    Raises:
        SlideError: not a slide, not RGB, or damaged.
    """
    with path.open("rb") as stream:
        is_tiff = stream.read(4) in _TIFF
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


@functools.cache
def has_openslide() -> bool:
    """Whether OpenSlide can be used: its Python part without its library is as good as none."""
    try:
        import openslide  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


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
