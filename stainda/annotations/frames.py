"""Where the coordinates of a file begin: at the slide's corner, or at that of its scanned part.

OpenSlide reports the scanned part of some slides (MRXS, SCN) as *bounds*. QuPath takes that part for the picture and
counts from its upper left corner, unless a slide was opened with ``--no-crop`` (QuPath, ``OpenslideImageServer``).
Inside stainda, coordinates are level-0 pixels of the whole slide; files are converted here, when they are read and when
they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import shapely

from stainda.annotations.records import ShapeRecords, as_objects
from stainda.arrays import Array
from stainda.errors import AnnotationError, did_you_mean

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

Frame = Literal["level0", "bounds"]
Origin = Literal["auto", "level0", "bounds"]
ORIGINS: tuple[str, ...] = get_args(Origin)
Bounds = tuple[int, int, int, int]
"""(x, y, width, height) of the scanned part, level-0 pixels, as :attr:`stainda.slides.Slide.bounds`."""

MARK = "stainda"
NESTED = "nucleusGeometry"  # QuPath's cells hold a second geometry among their properties
_CLEARLY = 0.5  # share of tissue under the shapes that the other frame must add for an error
_FARTHEST = 1 << 40  # pixels; no slide is that wide
_CHECKED = 400  # shapes are enough to tell


@dataclass(frozen=True)
class ScannedPart:
    """The scanned part of a slide as a slide of its own: what formats that ask for the size are read against."""

    slide: Any

    @property
    def size(self) -> tuple[int, int]:
        bounds = bounds_of(self.slide)
        return tuple(self.slide.size) if bounds is None else (bounds[2], bounds[3])

    def __getattr__(self, name: str) -> Any:
        if name == "slide":  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.slide, name)


def as_origin(word: str | None) -> Origin:
    """A word of :data:`ORIGINS`; empty is ``auto``.

    Raises:
        AnnotationError: any other word.
    """
    text = (word or "auto").strip().lower()
    if text not in ORIGINS:
        raise AnnotationError(f"unknown origin {word!r} of coordinates", remedy=did_you_mean(text, ORIGINS))
    return text  # type: ignore[return-value]


def bounds_of(slide: Any) -> Bounds | None:
    """The scanned part of an open slide; ``None`` where that is the whole slide, or nothing is known of it."""
    bounds = getattr(slide, "bounds", None)
    if bounds is None or tuple(bounds) == (0, 0, *slide.size):
        return None
    x, y, width, height = (int(side) for side in bounds)
    return (x, y, width, height) if width > 0 and height > 0 else None


def bounds_of_file(slide: str | Path) -> Bounds | None:
    """As :func:`bounds_of`, of a slide's file; ``None`` where it is not there (any more).

    Raises:
        SlideError: it is there and cannot be opened.
    """
    from stainda.slides import open_slide

    if not Path(slide).is_file():
        return None
    with open_slide(slide) as opened:
        return bounds_of(opened)


def corner(frame: Frame, bounds: Bounds | None) -> tuple[float, float]:
    """The level-0 pixel at which a frame begins."""
    return (0.0, 0.0) if frame == "level0" or bounds is None else (float(bounds[0]), float(bounds[1]))


def to_level0(shapes: gpd.GeoDataFrame, frame: Frame, bounds: Bounds | None) -> gpd.GeoDataFrame:
    """Shapes of a frame in level-0 pixels of the slide (the nuclei of QuPath's cells too); a copy where they move."""
    return moved(shapes, *corner(frame, bounds))


def from_level0(shapes: gpd.GeoDataFrame, frame: Frame, bounds: Bounds | None) -> gpd.GeoDataFrame:
    """Shapes in level-0 pixels, in a frame; the inverse of :func:`to_level0`."""
    x, y = corner(frame, bounds)
    return moved(shapes, -x, -y)


def moved(shapes: gpd.GeoDataFrame, x: float, y: float) -> gpd.GeoDataFrame:
    """Shapes moved by (x, y) pixels, with the geometries among their properties."""
    import geopandas as gpd

    if (x, y) == (0, 0) or not len(shapes):
        return shapes
    result = shapes.copy()
    geometries = _moved_geometries(np.asarray(shapes.geometry.values, object), x, y)
    result["geometry"] = gpd.GeoSeries(geometries, index=shapes.index)
    if any(NESTED in entry for entry in shapes["properties"]):
        result["properties"] = [_moved_properties(entry, x, y) for entry in shapes["properties"]]
    return result


def moved_records(records: ShapeRecords, x: float, y: float) -> ShapeRecords:
    """As :func:`moved`, of records."""
    if (x, y) == (0, 0):
        return records
    return records.replaced(
        geometries=_moved_geometries(records.geometries, x, y),
        properties=as_objects([_moved_properties(entry, x, y) for entry in records.properties]),
    )


def _moved_geometries(geometries: Array, x: float, y: float) -> Array:
    step = np.array([x, y])
    return np.asarray(shapely.transform(geometries, lambda xy: xy + step), object)


def _moved_properties(properties: dict[str, Any], x: float, y: float) -> dict[str, Any]:
    return {**properties, NESTED: _moved_json(properties[NESTED], x, y)} if NESTED in properties else properties


def _moved_json(geometry: object, x: float, y: float) -> Any:
    """A GeoJSON geometry moved; what is none stays as it is."""
    if not isinstance(geometry, Mapping) or not isinstance(geometry.get("coordinates"), list):
        return geometry

    def walk(value: object) -> Any:
        if not isinstance(value, list):
            return value
        if len(value) >= 2 and all(isinstance(number, int | float) for number in value[:2]):
            return [value[0] + x, value[1] + y, *value[2:]]
        return [walk(part) for part in value]

    return {**geometry, "coordinates": walk(geometry["coordinates"])}


@dataclass(frozen=True)
class Mark:
    """What a GeoJSON of stainda says about itself, as its member ``stainda``: the frame of its coordinates.

    ``bounds``: the scanned part of its slide where that is the frame, else ``None``.
    """

    bounds: Bounds | None = None

    @property
    def frame(self) -> Frame:
        return "level0" if self.bounds is None else "bounds"

    def as_json(self) -> dict[str, Any]:
        return {"frame": self.frame} | (
            {} if self.bounds is None else {"bounds": [int(bound) for bound in self.bounds]}
        )

    @classmethod
    def of(cls, document: object, path: Path) -> Mark | None:
        """The mark of a document; ``None`` where there is none.

        Raises:
            AnnotationError: it is there but says nothing that can be used.
        """
        mark = document.get(MARK) if isinstance(document, Mapping) else None
        if not isinstance(mark, Mapping) or "frame" not in mark:
            return None
        bounds = mark.get("bounds")
        if mark["frame"] == "level0":
            return cls()
        numbers = bounds if isinstance(bounds, list) else []
        whole = len(numbers) == 4 and all(isinstance(number, int) and abs(number) < _FARTHEST for number in numbers)
        if mark["frame"] == "bounds" and whole:
            return cls((numbers[0], numbers[1], numbers[2], numbers[3]))
        raise AnnotationError(
            f"its member {MARK!r} does not say where its coordinates begin",
            file=path,
            remedy="Write the file again, or remove that member and say --origin (manifest: annotation_origin)",
        )


def check_frame(
    shapes: Array, frame: Frame, slide: Any, path: Path, other: Callable[[], Array] | None = None
) -> str | None:
    """Refuse shapes that lie on glass as they were read, and on tissue if they had been read in the other frame.

    Only slides with a scanned part smaller than themselves are looked at; the share of tissue under each shape is
    averaged over the shapes. Shapes beyond the scanned part lie on glass.

    Args:
        shapes: object (n,), geometries in level-0 pixels, read in ``frame``.
        slide: the open slide. path: the file, for the error.
        other: gives the shapes, level-0 pixels, as read in the other frame; default: moved by the scanned part.

    Returns:
        A sentence where the other frame fits better, but not so clearly that it is an error.

    Raises:
        AnnotationError: as stated above, with the origin to state.
    """
    bounds = bounds_of(slide)
    if bounds is None or not len(shapes) or not hasattr(slide, "thumbnail"):
        return None
    from stainda.slides import tissue_mask

    instead: Frame = "level0" if frame == "bounds" else "bounds"
    if other is None:
        steps = np.subtract(corner(instead, bounds), corner(frame, bounds))
        rivals = _moved_geometries(shapes, *steps)
    else:
        rivals = other()
    tissue = tissue_mask(slide)
    share, rival_share = (_tissue_share(table, tissue, bounds) for table in (shapes, rivals))
    seen = (
        f"{share:.0%} of what its {len(shapes)} shapes cover is tissue when they are read from {_WORDS[frame]}, "
        f"{rival_share:.0%} when read from {_WORDS[instead]}"
    )
    if rival_share - share >= _CLEARLY:
        raise AnnotationError(
            seen,
            file=path,
            remedy=f"Say where its coordinates begin: --origin {instead} (manifest: annotation_origin {instead})",
        )
    return seen if rival_share - share >= _CLEARLY / 3 else None


_WORDS: dict[Frame, str] = {"level0": "the corner of the slide", "bounds": "the corner of the scanned part"}


def _tissue_share(shapes: Array, tissue: Any, bounds: Bounds) -> float:
    """The mean share of tissue under the shapes, evenly chosen where they are many; glass beyond the bounds."""
    if not len(shapes):
        return 0.0
    chosen = np.unique(np.linspace(0, len(shapes) - 1, _CHECKED).astype(int))
    x, y, width, height = bounds
    scanned = shapely.box(x, y, x + width, y + height)
    shares = []
    for geometry in shapes[chosen]:
        inside = shapely.intersection(shapely.make_valid(geometry), scanned)
        whole = _extent(geometry)
        shares.append(tissue.share_of(inside) * (_extent(inside) / whole if whole else not inside.is_empty))
    return float(np.mean(shares))


def _extent(geometry: BaseGeometry) -> float:
    """Area, or length where there is none."""
    return float(geometry.area or geometry.length)
