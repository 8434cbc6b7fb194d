"""Loading of shapes from a file of any known format, with repair and a record of every change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.annotations.classes import ClassMap
from stainda.annotations.formats import sniff_format
from stainda.annotations.formats.frame import PlainFrame, SlideFrame
from stainda.annotations.formats.registry import read_records
from stainda.annotations.frames import Origin
from stainda.annotations.records import ShapeRecords
from stainda.annotations.repair import repair_records, split_points
from stainda.errors import AnnotationError
from stainda.names import stem

if TYPE_CHECKING:
    import geopandas as gpd


def load_shapes(
    path: str | Path,
    size: tuple[int, int] | None = None,
    slide: SlideFrame | None = None,
    origin: Origin = "auto",
) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    """Read shapes of any format and repair them; what was mended or dropped is in rows of :data:`REPAIR_COLUMNS`.

    A set of several points is split: each is a shape of its own.

    Args:
        path: QuPath GeoJSON or any of :data:`stainda.annotations.formats.FORMATS`, recognised by looking into it.
        size: the slide's width and height in level-0 pixels; shapes outside are dropped, those across its edge clipped.
        slide: the open slide, for formats that need more than its size (NDPA: pixel size and position on the glass;
            QuPath: where the scanned part begins).
        origin: where the file's coordinates begin, see :func:`stainda.annotations.formats.read_annotations`.

    Returns:
        Shapes in level-0 pixels of the slide, and what was reported.

    Raises:
        AnnotationError: the file is broken, hostile or of no known format, cannot be placed without the slide, or lies
            on glass unless its coordinates are read from another origin.
    """
    records, changes = load_records(path, size, slide, origin)
    return records.table(), changes


def load_shapes_of(
    path: str | Path, slide: str | Path | None = None, origin: Origin = "auto", mpp: float | None = None
) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    """As :func:`load_shapes`, with the slide named by its file.

    Args:
        mpp: micrometres per level-0 pixel, where the slide does not say.

    Raises:
        SlideError: the slide cannot be opened.
    """
    if slide is None:
        return load_shapes(path, origin=origin)
    from stainda.slides import open_slide

    with open_slide(slide, mpp=mpp) as opened:
        return load_shapes(path, slide=opened, origin=origin)


def load_records(
    path: str | Path,
    size: tuple[int, int] | None = None,
    slide: SlideFrame | None = None,
    origin: Origin = "auto",
) -> tuple[ShapeRecords, list[dict[str, str]]]:
    """As :func:`load_shapes`, as plain arrays."""
    path = Path(path)
    if slide is None and size is None and sniff_format(path).name == "mask":
        raise AnnotationError(
            "a mask cannot be placed without the slide's size",
            file=path,
            remedy=f"Convert it first: stainda annotations convert {path.name} {stem(path)}.geojson --slide SLIDE",
        )
    frame = slide if slide is not None or size is None else PlainFrame(size, path)
    return load_any(path, frame, origin=origin)


def load_any(
    path: Path,
    slide: SlideFrame | None = None,
    format: str | None = None,
    classes: ClassMap | Mapping[str, str] | None = None,
    origin: Origin = "auto",
) -> tuple[ShapeRecords, list[dict[str, str]]]:
    """:func:`load_records` with the format named and classes renamed; classes the table lacks are kept and reported."""
    problems: list[dict[str, str]] = []
    name = format or sniff_format(path).name
    shapes = read_records(path, name, slide, problems=problems, origin=origin)
    if classes:
        table = classes if isinstance(classes, ClassMap) else ClassMap.of(classes)
        problems += _strangers(shapes, table, name)
        shapes, _ = table.apply_records(shapes, format=name)
    shapes, split = split_points(shapes)
    shapes, rows = repair_records(shapes, None if slide is None else slide.size)
    return shapes, problems + split + rows


def _strangers(shapes: ShapeRecords, table: ClassMap, format: str) -> list[dict[str, str]]:
    """Rows about the shapes whose class a table does not know, or drops."""
    rows = []
    for identity, cls in zip(shapes.ids, shapes.classes, strict=True):
        _, fate = table.becomes(cls, format=format)
        if fate == "unknown":
            near = table.nearest(cls)
            reason = "its class is not in the table of classes" + (f" (perhaps {near!r} is meant)" if near else "")
            rows.append({"id": str(identity), "class": cls, "action": "kept", "reason": reason})
        elif fate == "dropped":
            reason = "the table of classes drops its class"
            rows.append({"id": str(identity), "class": cls, "action": "dropped", "reason": reason})
    return rows
