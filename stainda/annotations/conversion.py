"""Conversion and inspection of annotation files, with tables of shapes found, repaired and lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from stainda.annotations.classes import ClassMap
from stainda.annotations.formats import FORMATS, sniff_format, write_annotations
from stainda.annotations.formats.frame import SlideFrame
from stainda.annotations.frames import Origin
from stainda.annotations.loading import load_any
from stainda.annotations.records import ShapeRecords

CLASS_COLUMNS = ("class", "areas", "lines", "points", "median area px²")
CHANGE_COLUMNS = ("class", "what", "why", "shapes", "for example")


@dataclass(frozen=True)
class Contents:
    """What is in a file of annotations.

    Attributes:
        title: of its format.
        count: usable shapes.
        classes: rows of :data:`CLASS_COLUMNS`.
        changes: rows of :data:`CHANGE_COLUMNS`: what had to be mended or dropped, and classes that were not expected.
        lost: after a conversion, what the new format cannot hold, one sentence each.
    """

    title: str
    count: int
    classes: list[tuple[str, int, int, int, str]]
    changes: list[tuple[str, str, str, int, str]]
    lost: tuple[str, ...] = ()


def inspect_annotations(
    path: str | Path,
    slide: SlideFrame | None = None,
    format: str | None = None,
    classes: ClassMap | Mapping[str, str] | None = None,
    origin: Origin = "auto",
) -> Contents:
    """Read a file and say what is in it, and what :func:`stainda.annotations.load_shapes` mends or drops.

    Args:
        slide: the open slide; without it, positions are not checked.
        format: a name in ``FORMATS``; ``None`` looks into the file.
        classes: new names of classes (``ignore`` and ``drop`` are understood); others are reported.
        origin: where the file's coordinates begin; ``auto``: as the file says, or as its format's programs do.

    Raises:
        AnnotationError: the file cannot be read, needs the slide, or lies on glass as it was read.
    """
    path = Path(path)
    name = format or sniff_format(path).name
    shapes, changes = load_any(path, slide, name, classes, origin)
    return Contents(FORMATS[name].title, len(shapes), _classes(shapes), group_changes(changes))


def convert_annotations(
    source: str | Path,
    target: str | Path,
    slide: SlideFrame | None = None,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    classes: ClassMap | Mapping[str, str] | None = None,
    origin: Origin = "auto",
    target_origin: Origin = "auto",
) -> Contents:
    """Write the shapes of one file into another of any format; arguments as for :func:`inspect_annotations`.

    Args:
        target_origin: where the written coordinates shall begin; ``auto``: as the format's programs count.

    Raises:
        AnnotationError: the source cannot be read, the target's name does not tell its format, or the slide is needed.
    """
    source = Path(source)
    name = source_format or sniff_format(source).name
    shapes, changes = load_any(source, slide, name, classes, origin)
    lost = write_annotations(shapes.table(), target, target_format, slide, target_origin)
    return Contents(FORMATS[name].title, len(shapes), _classes(shapes), group_changes(changes), tuple(lost))


def _classes(shapes: ShapeRecords) -> list[tuple[str, int, int, int, str]]:
    rows = []
    for cls in sorted(set(shapes.classes)):
        geometries = shapes.geometries[shapes.classes == cls]
        kind = shapely.get_dimensions(geometries)
        areas = shapely.area(geometries[kind == 2])
        median = f"{np.median(areas):.0f}" if len(areas) else ""
        n_areas, n_lines, n_points = (int((kind == number).sum()) for number in (2, 1, 0))
        rows.append((str(cls) or "(none)", n_areas, n_lines, n_points, median))
    return rows


def group_changes(rows: list[dict[str, str]]) -> list[tuple[str, str, str, int, str]]:
    """Rows of repairs as rows of :data:`CHANGE_COLUMNS`, those of one class and reason as one."""
    example: dict[tuple[str, str, str], str] = {}
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        reason = row["reason"].split("; it is now")[0]  # new ids differ from row to row
        group = (row["class"] or "(none)", row["action"], reason)
        counts[group] += 1
        example.setdefault(group, row["id"])
    return [(*group, count, example[group]) for group, count in counts.items()]
