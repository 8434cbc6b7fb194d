"""What is known of a slide and its annotations before any work: read once for as long as the files stay as they are."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stainda.cohort import Section
from stainda.errors import SlideError, StaindaError
from stainda.files import stable_hash


@dataclass(frozen=True)
class Drawn:
    """What is known of a slide without reading its pixels.

    Attributes:
        mpp: micrometres per level-0 pixel; ``None`` where neither the manifest nor the file tells.
        counts: shapes by class as drawn. Of several annotators the largest count.
        areas: of each shape by class, level-0 pixels squared.
        fault: why the slide or its annotations cannot be used.
        unreadable: why the slide cannot be opened.
    """

    mpp: float | None
    counts: Mapping[str, int]
    areas: Mapping[str, tuple[float, ...]]
    format: str = ""
    fault: str = ""
    unreadable: str = ""


def look(section: Section) -> Drawn:
    """The pixel size and the annotations of a section; files that did not change are read once."""
    files = section.annotation_files
    stamps = tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in (section.path, *files))
    return _look(section.path, section.mpp, files, stamps)


@functools.lru_cache(maxsize=4096)
def _look(path: Path, mpp: float | None, files: tuple[Path, ...], stamps: tuple[int, ...]) -> Drawn:
    from stainda.annotations import load_records, sniff_format
    from stainda.slides import open_slide

    counts: dict[str, int] = {}
    areas: dict[str, tuple[float, ...]] = {}
    try:
        with open_slide(path, mpp=mpp) as slide:
            known = slide.mpp
            for file in files:
                shapes, _ = load_records(file, slide.size, slide)
                for name in dict.fromkeys(shapes.classes):
                    drawn = shapes.geometries[shapes.classes == name]
                    if len(drawn) > counts.get(name, 0):
                        counts[name] = len(drawn)
                        areas[name] = tuple(shape.area for shape in drawn)
        return Drawn(known, counts, areas, sniff_format(files[0]).name if files else "")
    except StaindaError as error:
        unreadable = str(error) if isinstance(error, SlideError) else ""
        return Drawn(mpp, {}, {}, fault=str(error), unreadable=unreadable)


LOOKED_AT = 1
"""Raised when :func:`sample` looks at other places, so that slides are looked at again."""

_TILE = 128  # pixels, the side of a place that is read
_PLACES = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
_DECODERS = (
    "openslide-python", "openslide-bin", "tifffile", "imagecodecs", "pillow", "pyvips", "pyvips-binary",
)  # fmt: skip
_known_sound: set[tuple[Path, int, int]] = set()


def sample(section: Section) -> SlideError | None:
    """Why pixels of a slide cannot be read, by a few places of them; ``None`` where they can.

    The corners and the middle of the full resolution are read, and the middle of every other level.
    A slide that does not change is looked at once.
    """
    stamp = _stamp(section.path)
    if stamp is None or stamp in _known_sound:
        return None
    from stainda.slides import open_slide

    try:
        with open_slide(section.path, mpp=section.mpp) as slide:
            left, top, width, height = slide.bounds
            for number, level in enumerate(slide.levels):
                size = min(level.width, _TILE), min(level.height, _TILE)
                right, bottom = (
                    max(0.0, side - n * level.downsample) for side, n in zip((width, height), size, strict=True)
                )
                for across, down in _PLACES if number == 0 else _PLACES[:1]:
                    slide.read(left + across * right, top + down * bottom, *size, number)
    except SlideError as error:
        return error
    take_as_sound(section.path)
    return None


def take_as_sound(path: Path) -> None:
    """The pixels of this file were looked at, by this call or by one before."""
    if (stamp := _stamp(path)) is not None:
        _known_sound.add(stamp)


def decoders() -> str:
    """Hash of how slides are looked at, and of the versions of the libraries that decode them."""
    versions: dict[str, str] = {}
    for name in _DECODERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return stable_hash([LOOKED_AT, versions])


def _stamp(path: Path) -> tuple[Path, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return path, state.st_size, state.st_mtime_ns
