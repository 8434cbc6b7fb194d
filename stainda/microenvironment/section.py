"""What is known of one section before anything is counted: cells, structures and the window, in micrometres."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations import IGNORE_CLASSES, outlines
from stainda.cohort.types import Section
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.microenvironment.cells import Cells
from stainda.microenvironment.window import CountingWindow
from stainda.microenvironment.zones import Geometries
from stainda.slides import tissue_mask

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.slides import Slide

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.object_]
SIMPLE_PX = 0.75
"""Pixels of the tissue mask by which its outline is simplified."""
RASTER_UM = 4.0
MOST_SQUARES = 4_000_000
"""Squares of the raster on which windows are shifted; on large sections they are larger than :data:`RASTER_UM`."""


@dataclass(frozen=True)
class LeftOut:
    """Things of a slide that stay out, and why."""

    slide: str
    what: str
    number: int
    reason: str


@dataclass(frozen=True, eq=False)
class Structures:
    """Structures of one section: arrays (m,).

    Attributes:
        outlines: polygons, micrometres in the section (level-0 pixels times mpp).
        ids, classes: as annotated. identity: the same for all profiles of one structure in the block; ``""`` unknown.
        sources: the section each outline was drawn on. confidence: of propagated ones, ``nan`` else.
        error_um: how far the outline may be from the structure, 0 where it was drawn on this section.
    """

    outlines: Geometries
    ids: Words
    classes: Words
    identity: Words
    sources: Words
    confidence: Floats
    error_um: Floats

    def __len__(self) -> int:
        return len(self.outlines)

    def take(self, kept: npt.NDArray[np.bool_]) -> Structures:
        return Structures(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))

    def named(self, identity: Words) -> Structures:
        return replace(self, identity=identity)

    @classmethod
    def of(cls, shapes: gpd.GeoDataFrame, mpp: float, slide: str, error_um: Floats | None = None) -> Structures:
        """From shapes in level-0 pixels; those without a source were drawn on ``slide``."""
        sources = np.array([str(source) or slide for source in shapes["source_slide"]], dtype=object)
        return cls(
            shapely.transform(shapely.force_2d(np.asarray(shapes.geometry.values, object)), lambda xy: xy * mpp),
            shapes["id"].to_numpy(object), shapes["class"].to_numpy(object),
            np.full(len(shapes), "", object), sources, shapes["confidence"].to_numpy(float),
            np.zeros(len(shapes)) if error_um is None else np.asarray(error_um, float),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Compartment:
    """An area in micrometres, and the place its outlines are from, as :attr:`SectionData.outlined`."""

    shape: BaseGeometry
    outline: str


@dataclass(frozen=True, eq=False)
class SectionData:
    """One section, ready to be measured; coordinates are micrometres of the section.

    Attributes:
        cells: as found, level-0 pixels. xy: (n, 2) of those on tissue. kept: bool, which of the cells these are.
        others: (m, 2) cells of classes that do not count, on tissue.
        window: the tissue without holes and ignored areas.
        compartments: areas by name.
        outlined: where the outlines are from: ``own``, ``propagated``, ``files`` or ``detected``.
    """

    section: Section
    mpp: float
    size: tuple[int, int]
    cells: Cells
    kept: npt.NDArray[np.bool_]
    xy: Floats
    others: Floats
    structures: Structures
    window: CountingWindow
    compartments: dict[str, Compartment]
    left_out: tuple[LeftOut, ...]
    outlined: str


def tissue_window(slide: Slide, mpp: float, ignored: Geometries, min_hole_um2: float) -> CountingWindow:
    """The tissue of a slide, holes of at least that size and ignored areas (level-0 pixels) taken out.

    A stained cell is tissue itself, so cells are hardly ever counted as lying in a hole: were lumina taken out, the
    densities about them would be too high.
    """
    tissue = tissue_mask(slide)
    shapes = outlines(tissue.mask.astype(np.uint8), 0, 0, tissue.downsample)
    parts = shapely.simplify(np.asarray(shapes.geometry.values, object), SIMPLE_PX * tissue.downsample)
    area = shapely.union_all(shapely.make_valid(parts)) if len(parts) else shapely.Polygon()
    area = shapely.intersection(without_small_holes(area, min_hole_um2 / mpp**2), shapely.box(0, 0, *slide.size))
    if len(ignored):
        area = shapely.difference(area, shapely.union_all(shapely.make_valid(ignored)))
    return window_of(shapely.transform(area, lambda xy: xy * mpp))


def window_of(shape: BaseGeometry) -> CountingWindow:
    """The areas of a shape in micrometres, with a raster that is as fine as the size of the section allows."""
    areas = areas_of(shape)
    x0, y0, x1, y1 = (0.0, 0.0, 0.0, 0.0) if areas.is_empty else areas.bounds
    return CountingWindow(areas, max(RASTER_UM, float(np.sqrt((x1 - x0) * (y1 - y0) / MOST_SQUARES))))


def without_small_holes(shape: BaseGeometry, least: float) -> BaseGeometry:
    """Polygons whose holes smaller than ``least`` are filled."""
    filled = []
    for part in shapely.get_parts(areas_of(shape)):
        holes = [ring for ring in part.interiors if shapely.Polygon(ring).area >= least]
        filled.append(shapely.Polygon(part.exterior, holes))
    return shapely.union_all(filled) if filled else shapely.Polygon()


def areas_of(geometry: BaseGeometry) -> BaseGeometry:
    """The areas of a geometry."""
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if parts else shapely.Polygon()


def ignored_of(shapes: gpd.GeoDataFrame | None) -> Geometries:
    if shapes is None or not len(shapes):
        return np.zeros(0, object)
    return np.asarray(shapes.geometry.values, object)[shapes["class"].isin(IGNORE_CLASSES).to_numpy(bool)]


def usable(
    structures: Structures, window: CountingWindow, config: MicroenvironmentConfig, slide: str
) -> tuple[Structures, list[LeftOut]]:
    """The structures that can be measured, and what stays out."""
    left_out: list[LeftOut] = []
    shape = window.shape
    area = shapely.area(structures.outlines)
    valid = shapely.is_valid(structures.outlines) & (area > 0)
    inside = np.zeros(len(area))
    inside[valid] = shapely.area(shapely.intersection(structures.outlines[valid], shape)) / area[valid]
    unsure = np.isfinite(structures.confidence) & (structures.confidence < config.min_confidence)
    unknown = ~np.isfinite(structures.error_um)
    far = ~unknown & (structures.error_um > config.max_error_um)
    keep = np.ones(len(structures), bool)
    for fault, reason in (
        (~valid, "no valid area"),
        (inside < config.min_inside, f"less than {config.min_inside:.0%} of it lies on tissue"),
        (unsure, f"propagated with a confidence below {config.min_confidence:g}"),
        (unknown, "the error of its registration is not known"),
        (far, f"placed less exactly than {config.max_error_um:g} µm"),
    ):
        if number := int((fault & keep).sum()):
            left_out.append(LeftOut(slide, "structures", number, reason))
        keep &= ~fault
    return structures.take(keep), left_out
