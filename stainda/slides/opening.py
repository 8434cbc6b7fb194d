"""Opening of a slide: its pixels come from a child process, or are decoded here."""

from __future__ import annotations

import math
from pathlib import Path

from stainda.errors import SlideError
from stainda.slides.backend import Backend
from stainda.slides.contained import ContainedBackend, is_contained
from stainda.slides.slide import Slide


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
            head = stream.read(1)
    except OSError as error:
        raise SlideError(f"cannot be read ({error.strerror})", file=path, remedy="Check its permissions") from error
    if not head:
        raise SlideError("the file is empty", file=path, remedy="Copy or export it again")
    try:
        return Slide(path, _backend(path), mpp, open_slide)
    except SlideError as error:
        raise SlideError(error.message, file=path, remedy=error.remedy) from error


def _backend(path: Path) -> Backend:
    if is_contained():
        return ContainedBackend(path)
    from stainda.slides.decoding import open_backend

    return open_backend(path)
