"""What is known of a slide and its annotations before any work: read once for as long as the files stay as they are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stainda.cohort import Section
from stainda.errors import SlideError, StaindaError


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
