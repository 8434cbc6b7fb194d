"""Opening a slide: OpenSlide first, then our own reading of TIFF, then plain images; or a clear refusal."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path

from stainda.errors import SlideError
from stainda.slides.slide import Backend, Slide

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WITH_OPENSLIDE_ONLY = {".mrxs", ".ndpi", ".vms", ".vmu", ".scn", ".bif", ".czi", ".dcm", ".svslide"}


def open_slide(path: str | Path, mpp: float | None = None) -> Slide:
    """Open a slide for reading.

    Args:
        path: anything OpenSlide reads; TIFF, OME-TIFF, pyramidal TIFF; PNG, JPEG, WebP, BMP. Pixels must be 8-bit RGB
            (alpha is laid on white).
        mpp: micrometres per level-0 pixel, where the file does not tell or tells wrongly.

    Raises:
        SlideError: no such file; not a slide; not RGB (fluorescence channels, greyscale, 16 bit); damaged. The reason
            is in the message.
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
        return Slide(path, _backend(path, head), mpp)
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
    refusal: SlideError | None = None
    if has_openslide():
        from stainda.slides.with_openslide import open_with_openslide

        try:
            backend = open_with_openslide(path)
            if backend is not None:
                return _better_tiff(path, backend) if backend.generic else backend
        except SlideError as error:
            refusal = error
    reader: Callable[[Path], Backend]
    if head[:4] in _TIFF:
        from stainda.slides.with_tifffile import open_tiff

        reader = open_tiff
    elif refusal is not None:
        raise refusal
    elif not has_openslide() and path.suffix.lower() in _WITH_OPENSLIDE_ONLY:
        raise SlideError(
            f"reading {path.suffix} needs OpenSlide, which is not installed", remedy="pip install 'stainda[slides]'"
        )
    else:
        from stainda.slides.with_pillow import open_image

        reader = open_image
    try:
        return reader(path)
    except SlideError as error:
        if refusal is None or "not supported" not in error.message:
            raise
        raise refusal from error


def _better_tiff(path: Path, backend: Backend) -> Backend:
    """Of a TIFF without vendor, OpenSlide sees neither OME-XML nor reductions in SubIFDs: then our own reading."""
    from stainda.slides.with_tifffile import open_tiff

    try:
        own = open_tiff(path)
    except SlideError:
        return backend
    if own.is_ome or len(own.sizes) > len(backend.sizes):
        backend.close()
        return own
    own.close()
    return backend
