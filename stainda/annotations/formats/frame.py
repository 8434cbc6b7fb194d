"""Slide properties that a format needs, and the errors raised where they are unknown."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.overlay import only_areas
from stainda.errors import AnnotationError

if TYPE_CHECKING:
    import geopandas as gpd

WITH_SLIDE = "Give the slide (--slide), or first convert to GeoJSON with stainda annotations convert"


Problems = list[dict[str, str]] | None
"""Where readers tell of shapes that cannot be used (rows of ``REPAIR_COLUMNS``); ``None``: such a shape is an error."""


class SlideFrame(Protocol):
    """The part of an open slide that formats ask for: (width, height) in level-0 pixels."""

    @property
    def size(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class PlainFrame:
    """A slide of which only the size (perhaps the scanned part) is known, and the file that says something of it."""

    size: tuple[int, int]
    path: Path
    bounds: tuple[int, int, int, int] | None = None


def require_size(slide: SlideFrame | None, path: Path, why: str) -> tuple[int, int]:
    """The slide's width and height, or an error that says what they are needed for."""
    if slide is None:
        raise AnnotationError(f"the slide's size is needed {why}", file=path, remedy=WITH_SLIDE)
    return slide.size


@contextlib.contextmanager
def telling(problems: Problems, identity: object, cls: str) -> Iterator[None]:
    """Leave out the one shape that is read within, where it cannot be used, and tell of it; see :data:`Problems`."""
    try:
        yield
    except AnnotationError as error:
        if problems is None:
            raise
        problems.append({"id": str(identity), "class": cls, "action": "dropped", "reason": error.message})


def number(value: Any, path: Path, what: str) -> float:
    """A finite number from text."""
    try:
        parsed = float(value)
    except (TypeError, ValueError, OverflowError):
        parsed = math.nan
    if not math.isfinite(parsed):
        raise AnnotationError(
            f"{what} is {str(value)[:40]!r}, which is no number", file=path, remedy="Correct or export it again"
        )
    return parsed


def polygon(points: list[tuple[float, float]], path: Path, what: str) -> BaseGeometry:
    """A polygon of at least three points."""
    if len(points) < 3:
        raise AnnotationError(f"{what} has {len(points)} points, where 3 are needed", file=path, remedy="Delete it")
    return shapely.Polygon(points)


def valid_area(geometry: BaseGeometry) -> tuple[BaseGeometry, str]:
    """The area within an outline, which may cross itself (a pen that overshoots its start does), as GEOS can work with
    it; and what was wrong, as a repair says it, empty where nothing was."""
    if geometry.is_valid:
        return geometry, ""
    reason = shapely.is_valid_reason(geometry).split("[")[0].lower()
    return only_areas(shapely.make_valid(geometry)), f"invalid ({reason})"


def simple_parts(shapes: gpd.GeoDataFrame) -> list[tuple[dict[str, Any], BaseGeometry]]:
    """Each row with each part of its geometry: polygons, lines and points that are not multiple."""
    return [
        (row, part)
        for row in shapes.to_dict("records")
        if row["geometry"] is not None
        for part in shapely.get_parts(row["geometry"])
        if not part.is_empty
    ]


def ellipse(x0: float, y0: float, x1: float, y1: float) -> BaseGeometry:
    """The ellipse in a box, as a polygon of 64 corners."""
    disc = shapely.Point(0, 0).buffer(1, quad_segs=16)
    half, centre = (abs(x1 - x0) / 2, abs(y1 - y0) / 2), ((x0 + x1) / 2, (y0 + y1) / 2)
    return shapely.transform(disc, lambda xy: xy * half + centre)
