"""Structure of a TIFF: which image is the slide, and how its pixels are stored; nothing is decoded here."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stainda.errors import SlideError
from stainda.slides.backend import PixelSize
from stainda.slides.pixel_size import from_aperio, from_imagej, from_ome, from_resolution, ome_pixels
from stainda.slides.rules import Alpha, Channel, Colour, Pixels, joins_to_rgb, refuse_unless_rgb

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from tifffile import TiffFile, TiffPage, TiffPageSeries


_COPY = "Copy or export it again"
_AXES = {"Z": "focal planes", "T": "time points", "I": "pages", "Q": "pages"}
_ALPHA: dict[int, Alpha] = {0: "unknown", 1: "premultiplied", 2: "straight"}
_NDPI_CAPTURE_MODE = 65441
_ORIENTATION = 274


@dataclass
class TiffPicture:
    """The picture that is taken: per level its pages (three where red, green and blue are pages of their own).

    Attributes:
        file: the open ``tifffile.TiffFile``; the holder closes it.
        levels: pages of each resolution, finest first.
        plain: whether any TIFF library would show the same: pixels interleaved, no alpha, stored upright.
    """

    file: Any
    levels: list[list[Any]]
    pixels: Pixels
    pixel_size: PixelSize
    is_ome: bool
    plain: bool
    notes: tuple[str, ...] = field(default=())


def open_picture(path: Path) -> TiffPicture:
    """The largest picture of a TIFF, with its pyramid.

    Never a smaller one: where the main picture is not RGB, an RGB thumbnail next to it would be the wrong picture.

    Raises:
        SlideError: no TIFF, damaged, or its main picture is not one 8-bit RGB picture.
    """
    file = opened(path)
    try:
        if "<!ENTITY" in (file.pages.first.description or "")[:1_000_000]:
            raise SlideError("its metadata define XML entities, which no microscope writes", remedy="Do not trust it")
        every = [series for series in file.series if _area(series) > 0]
        if not every:
            raise SlideError("the TIFF holds no picture", remedy=_COPY)
        refuse_cut_short((page.aspage() for page in file.pages), path)
        series = max(every, key=_area)
        pixels = _pixels(file, series, every)
        refuse_unless_rgb(pixels)
        return _picture(file, series, pixels)
    except SlideError:
        file.close()
        raise
    except Exception as error:  # tifffile raises whatever a damaged structure leads to
        file.close()
        raise SlideError(f"not a TIFF that can be read ({error})", remedy=_COPY) from error


def judge_scanner_tiff(path: Path) -> None:
    """Hold the rules for a scanner's TIFF that OpenSlide reads: OpenSlide converts any pixels to 8-bit RGB.

    The largest page stands for the slide; its pyramid and focal planes are the vendor's own affair.

    Raises:
        SlideError: its pixels are not 8-bit RGB, or it cannot be read as TIFF.
    """
    with opened(path) as file:
        try:
            pages = [page_.aspage() for page_ in file.pages]
            page = max(pages, key=lambda page_: page_.imagewidth * page_.imagelength)
            mode = page.tags.get(_NDPI_CAPTURE_MODE) if file.is_ndpi else None
            pixels = _page_pixels(page)
            refuse_cut_short(pages, path)
        except SlideError:
            raise
        except Exception as error:
            raise SlideError(f"not a TIFF that can be read ({error})", remedy=_COPY) from error
    if mode is not None and int(mode.value) != 0:
        raise SlideError(
            f"a fluorescence or single-colour scan (NDPI capture mode {int(mode.value)}), not RGB",
            remedy="stainda needs a brightfield scan of a stained section",
        )
    refuse_unless_rgb(pixels)


def refuse_cut_short(pages: Iterable[Any], path: Path) -> None:
    """Refuse a file whose tables point beyond its end: its first part, copied without the rest, opens like the whole.

    Raises:
        SlideError: pixels of a page lie beyond the end.
    """
    size = path.stat().st_size
    ends = [
        np.add(np.asarray(page.dataoffsets, np.int64), np.asarray(page.databytecounts, np.int64))
        for page in pages
        if len(page.dataoffsets) == len(page.databytecounts)
    ]
    missing = sum(int((end > size).sum()) for end in ends)
    if missing:
        raise SlideError(
            f"cut short: {missing} of its {sum(map(len, ends))} tiles lie beyond the end of the file ({size} bytes)",
            remedy=_COPY,
        )


def opened(path: Path) -> Any:
    """The file as ``tifffile.TiffFile``, a context manager.

    Raises:
        SlideError: it is no TIFF, or the chain of its directories does not end.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs what we raise
    try:
        file = tifffile.TiffFile(path)
    except Exception as error:
        raise SlideError(f"not a TIFF that can be read ({error})", remedy=_COPY) from error
    try:
        _refuse_endless(file)
    except SlideError:
        file.close()
        raise
    return file


def _refuse_endless(file: TiffFile) -> None:
    """Refuse directories (IFDs) that follow each other in a circle: tifffile reads them again and again.

    Raises:
        SlideError: with the place of the directory that comes back.
    """
    reader, tiff, seen = file.filehandle, file.tiff, set()
    reader.seek(4 if tiff.version == 42 else 8)
    try:
        (place,) = struct.unpack(tiff.offsetformat, reader.read(tiff.offsetsize))
        while place:
            if place in seen:
                raise SlideError(f"its directory at byte {place} follows itself, so that it never ends", remedy=_COPY)
            seen.add(place)
            reader.seek(place)
            (tags,) = struct.unpack(tiff.tagnoformat, reader.read(tiff.tagnosize))
            reader.seek(place + tiff.tagnosize + tags * tiff.tagsize)
            (place,) = struct.unpack(tiff.offsetformat, reader.read(tiff.offsetsize))
    except (struct.error, OSError, ValueError):
        return  # the chain ends in damage, which tifffile reads up to


def _area(series: TiffPageSeries) -> int:
    width, height = _size(series)
    return width * height


def _size(series: TiffPageSeries) -> tuple[int, int]:
    lengths = _lengths(series)
    return lengths.get("X", 0), lengths.get("Y", 0)


def _lengths(series: TiffPageSeries) -> dict[str, int]:
    return dict(zip(series.axes, (int(n) for n in series.shape), strict=False))


def _pixels(file: TiffFile, series: TiffPageSeries, every: Sequence[Any]) -> Pixels:
    lengths = _lengths(series)
    stack = tuple((n, _AXES.get(axis, axis)) for axis, n in lengths.items() if axis not in "YXSC" and n > 1)
    by_scanner = file.is_svs or file.is_ndpi or file.is_scn or file.is_bif  # the scanner tells what its pictures are
    twins = 0 if by_scanner else sum(other is not series and _size(other) == _size(series) for other in every)
    channels = _channels(file, series, lengths["C"]) if lengths.get("C", 1) > 1 else ()
    return _page_pixels(series.keyframe, channels, stack, twins)


def _page_pixels(
    page: TiffPage, channels: tuple[Channel, ...] = (), stack: tuple[tuple[int, str], ...] = (), twins: int = 0
) -> Pixels:
    colour, name = _colour(page)
    bits = page.bitspersample
    samples, alpha = int(page.samplesperpixel), "none"
    if samples == 4 and colour == "rgb":
        alpha = _ALPHA.get(int(page.extrasamples[0]) if page.extrasamples else 0, "unknown")
    if joins_to_rgb(channels) and samples == 1 and colour == "grey":
        colour, samples = "rgb", 3
    return Pixels(
        bits=max(bits) if isinstance(bits, tuple) else int(bits),
        colour=colour, samples=samples, type=_odd_type(page), colour_name=name, alpha=alpha,  # type: ignore[arg-type]
        channels=channels, stack=stack, twins=twins,
    )  # fmt: skip


def _odd_type(page: TiffPage) -> str:
    """The type of samples that are no unsigned integers; empty for these."""
    if page.dtype is None:
        return "unknown"
    kind = np.dtype(page.dtype).kind
    return "" if kind in "ub" else str(page.dtype)


def _colour(page: TiffPage) -> tuple[Colour, str]:
    name = getattr(page.photometric, "name", str(page.photometric)).lower()
    if name in ("minisblack", "miniswhite"):
        return ("black and white" if page.bitspersample == 1 else "grey"), name
    known: dict[str, Colour] = {"rgb": "rgb", "ycbcr": "rgb", "palette": "palette", "separated": "cmyk"}
    return known.get(name, "other"), name


def _channels(file: Any, series: Any, number: int) -> tuple[Channel, ...]:
    channels: list[Channel] = []
    if series.kind == "ome":
        channels = _ome_channels(file, series)
    elif series.kind == "imagej":
        labels = (file.imagej_metadata or {}).get("Labels") or []
        channels = [Channel(str(label)) for label in labels]
    elif series.kind == "qpi":
        channels = [Channel(fluorescent=True)] * number
    return tuple(channels) if len(channels) == number else (Channel(),) * number


def _ome_channels(file: Any, series: Any) -> list[Channel]:
    import defusedxml.ElementTree as ElementTree

    root = ElementTree.fromstring(file.ome_metadata)
    pixels = ome_pixels(root, _size(series), _ome_image(file, series))
    if pixels is None:
        return []
    return [_ome_channel(element) for element in pixels if element.tag.rsplit("}", 1)[-1] == "Channel"]


def _ome_image(file: Any, series: Any) -> int | None:
    """Which picture of the OME-XML a series is; ``None`` where tifffile made its series of something else."""
    return [id(series_) for series_ in file.series].index(id(series)) if series.kind == "ome" else None


def _ome_channel(element: Element) -> Channel:
    colour = None
    try:
        value = int(element.get("Color", "")) & 0xFFFFFFFF  # RGBA in a signed integer; white is the default of OME
        colour = None if value == 0xFFFFFFFF else (value >> 24, value >> 16 & 255, value >> 8 & 255)
    except ValueError:
        pass
    fluorescent = bool(element.get("Fluor") or element.get("EmissionWavelength") or element.get("ExcitationWavelength"))
    return Channel(
        element.get("Name", ""), colour, fluorescent or element.get("ContrastMethod", "").lower() == "fluorescence"
    )


def _picture(file: Any, series: Any, pixels: Pixels) -> TiffPicture:
    first = series.keyframe
    levels = [
        [page.aspage() for page in level.pages]
        for level in series.levels
        if level.keyframe.dtype == first.dtype and level.keyframe.samplesperpixel == first.samplesperpixel
    ]
    turned = first.tags.get(_ORIENTATION) is not None and int(first.tags[_ORIENTATION].value) != 1
    notes = []
    if turned:
        notes.append("its TIFF orientation is not applied: coordinates are those of the stored pixels, as in QuPath")
    if len(levels[0]) == 3:
        notes.append("its red, green and blue are channels of their own")
    interleaved = first.planarconfig == 1 and len(levels[0]) == 1
    return TiffPicture(
        file, levels, pixels, _pixel_size(file, series), bool(file.is_ome),
        plain=interleaved and pixels.alpha == "none" and not turned, notes=tuple(notes),
    )  # fmt: skip


def _pixel_size(file: TiffFile, series: Any) -> PixelSize:
    page = series.keyframe
    x, y = (_ratio(page.tags.get(name)) for name in ("XResolution", "YResolution"))
    pixel_size = PixelSize(None, "")
    if file.is_ome:
        pixel_size = from_ome(file.ome_metadata, _size(series), _ome_image(file, series))
    elif file.is_svs:
        pixel_size = from_aperio(page.description)
    elif file.is_imagej and "\nunit=" in file.pages.first.description:
        return from_imagej(file.pages.first.description, x, y)
    if pixel_size.mpp is not None:
        return pixel_size
    unit = page.tags.get("ResolutionUnit")
    micrometres = {2: 25_400.0, 3: 10_000.0}.get(int(unit.value) if unit is not None else 2)
    if micrometres is None or (x is None and y is None):
        return PixelSize(None, "the TIFF tells none")
    return from_resolution(x, y, micrometres, "the TIFF tags")


def _ratio(tag: Any) -> float | None:
    if tag is None or not tag.value[1]:
        return None
    return tag.value[0] / tag.value[1]
