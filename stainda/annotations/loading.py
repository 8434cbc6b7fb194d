"""Shapes from a file of any known format, mended, with every change told: what the rest of stainda reads with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import geopandas as gpd

from stainda.annotations.formats import read_annotations, sniff_format
from stainda.annotations.formats.frame import PlainFrame, SlideFrame
from stainda.annotations.guarded import read_csv
from stainda.annotations.repair import repair
from stainda.errors import AnnotationError


def load_shapes(
    path: str | Path, size: tuple[int, int] | None = None, slide: SlideFrame | None = None
) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    """Read shapes of any format and repair them; what was mended or dropped is told in rows of :data:`REPAIR_COLUMNS`.

    Args:
        path: QuPath GeoJSON or any of :data:`stainda.annotations.formats.FORMATS`, told by looking into it.
        size: the slide's width and height in level-0 pixels; shapes outside are dropped, those across its edge clipped.
        slide: the open slide, for formats that need more than its size (NDPA: pixel size and position on the glass).

    Raises:
        AnnotationError: the file is broken, hostile or of no known format, or cannot be placed without the slide.
    """
    path = Path(path)
    if slide is None and size is None and sniff_format(path).name == "mask":
        raise AnnotationError(
            "a mask cannot be placed without the slide's size",
            file=path,
            remedy=f"Convert it first: stainda annotations convert {path.name} {path.stem}.geojson --slide SLIDE",
        )
    frame = slide if slide is not None or size is None else PlainFrame(size, path)
    return load_any(path, frame)


def load_any(
    path: Path,
    slide: SlideFrame | None = None,
    format: str | None = None,
    classes: Mapping[str, str] | None = None,
) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    """:func:`load_shapes` with the format named and classes renamed; classes the table lacks are kept, and told."""
    problems: list[dict[str, str]] = []
    shapes = read_annotations(path, format, slide, problems=problems)
    if classes:
        unknown = shapes[~shapes["class"].isin([*classes, *classes.values()])]
        problems += [
            {"id": str(identity), "class": cls, "action": "kept", "reason": "its class is not in the table of classes"}
            for identity, cls in zip(unknown["id"], unknown["class"], strict=True)
        ]
        shapes["class"] = shapes["class"].map(lambda name: classes.get(name, name))
    shapes, rows = repair(shapes, None if slide is None else slide.size)
    return shapes, problems + rows


def read_class_table(path: str | Path) -> dict[str, str]:
    """New names of classes from a CSV with the columns ``from`` and ``to``.

    Raises:
        AnnotationError: other columns, or a class with two new names.
    """
    path = Path(path)
    header, *rows = read_csv(path)
    if [cell.strip().lower() for cell in header] != ["from", "to"]:
        found = ", ".join(map(repr, header))
        raise AnnotationError(f"the columns are {found}, not 'from' and 'to'", file=path, row=1)
    names: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != 2:
            raise AnnotationError(f"{len(row)} cells, where 2 are needed", file=path, row=number)
        old, new = (cell.strip() for cell in row)
        if names.setdefault(old, new) != new:
            raise AnnotationError(f"{old!r} has two new names, {names[old]!r} and {new!r}", file=path, row=number)
    return names
