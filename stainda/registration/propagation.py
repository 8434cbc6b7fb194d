"""Carrying annotations from the sections that have them to every other section of their block.

Every object of a source section and every other section of its block is a row of ``annotations/propagation.csv``: kept,
or dropped and why. A target's own annotations are never looked at here, except by ``agreement.py`` for scoring.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from scipy import ndimage

from stainda.annotations import empty_shapes, outlines, write_geojson
from stainda.cohort.types import Cohort, Section
from stainda.config import PropagationConfig
from stainda.files import write_csv
from stainda.progress import SILENT, Progress
from stainda.registration.agreement import AGREEMENT_COLUMNS, compare
from stainda.registration.confidence import LocalEvidence, confidences
from stainda.registration.results import BlockResult, file_name, load_block
from stainda.registration.sections import Refusal, SectionImage, open_section
from stainda.registration.similarity import VIEW_DIM
from stainda.registration.transforms import Between, apply_affine, map_shapes, same_kind

KEPT, DROPPED = "kept", "dropped"
PROPAGATION_COLUMNS = (
    "id", "class", "source", "target", "status", "reason", "area_ratio", "confidence", "block", "tissue_share",
    "above_chance", "round_trip_px", "sections_apart",
)  # fmt: skip


def propagate(
    cohort: Cohort,
    own_shapes: Mapping[str, gpd.GeoDataFrame],
    registration_folder: Path,
    config: PropagationConfig,
    source_slides: Iterable[str],
    out: Path,
    progress: Progress = SILENT,
) -> None:
    """Carry the shapes of the source slides to every other section of their blocks.

    Args:
        own_shapes: shapes by slide. Those of ``source_slides`` are carried; all others are used for
            ``agreement.csv`` and for nothing else.
        registration_folder: the ``registration`` folder that :func:`register_cohort` wrote.
        source_slides: whose shapes are carried; narrowed to the stains ``config.sources`` where those are given.
        out: the run directory. Written are ``annotations/propagated/<slide>.geojson`` for each target section that was
            registered (a refused one gets no file, so that it cannot be taken for a section without objects),
            ``annotations/propagation.csv`` and ``annotations/agreement.csv``.

    Raises:
        RegistrationError: a block with sources was not registered.
    """
    folder = Path(out) / "annotations"
    sources = set(source_slides)
    rows: list[dict[str, Any]] = []
    agreements: list[dict[str, Any]] = []
    written: set[str] = set()
    blocks = cohort.blocks()
    with progress.task("Carrying annotations", len(blocks)) as task:
        for block, sections in blocks.items():
            chosen = tuple(row for row in sections if _is_source(row, sources, own_shapes, config))
            if chosen and len(sections) > 1:
                result = load_block(Path(registration_folder), block)
                carrier = _Carrier(result, sections, config)
                for target, shapes, target_rows in carrier.carry_all(chosen, own_shapes):
                    rows += target_rows
                    if shapes is None:
                        continue
                    name = f"{file_name(target.slide)}.geojson"
                    write_geojson(shapes, folder / "propagated" / name)
                    written.add(name)
                    if target.slide in own_shapes:
                        own = _of_classes(own_shapes[target.slide], config)
                        agreements += compare(target.slide, shapes, own)
            task.advance(1, block)
    for stale in (folder / "propagated").glob("*.geojson"):
        if stale.name not in written:
            stale.unlink()
    write_csv(folder / "propagation.csv", rows, PROPAGATION_COLUMNS)
    write_csv(folder / "agreement.csv", agreements, AGREEMENT_COLUMNS)


def _is_source(
    row: Section, sources: set[str], own_shapes: Mapping[str, gpd.GeoDataFrame], config: PropagationConfig
) -> bool:
    return row.slide in sources and row.slide in own_shapes and (not config.sources or row.stain in config.sources)


def _of_classes(shapes: gpd.GeoDataFrame, config: PropagationConfig) -> gpd.GeoDataFrame:
    return shapes[shapes["class"].isin(config.classes)] if config.classes else shapes


@dataclass(frozen=True, eq=False)
class _Target:
    """A target section as propagation needs it: its image, and the area within the outer border of its tissue."""

    image: SectionImage
    tissue: shapely.Geometry

    @classmethod
    def of(cls, image: SectionImage) -> _Target:
        # Lumens and Bowman's spaces are glass inside tissue: what counts as off the tissue is beyond its outer border.
        filled = ndimage.binary_fill_holes(image.tissue)
        back = np.linalg.inv(image.matrix)
        shapes = outlines(filled.astype(np.uint8), 0, 0, 1.0)
        # outlines count from the corner of the first pixel, the matrix from its centre
        parts = shapely.transform(np.asarray(shapes.geometry), lambda xy: apply_affine(back, xy - 0.5))
        area = shapely.union_all(shapely.make_valid(parts)) if len(parts) else shapely.Polygon()
        area = shapely.intersection(area, shapely.box(0, 0, *image.size))
        shapely.prepare(area)
        return cls(image, area)


class _Carrier:
    """Carries shapes within one block; opens each section once."""

    def __init__(self, result: BlockResult, sections: tuple[Section, ...], config: PropagationConfig) -> None:
        self.result, self.sections, self.config = result, sections, config
        self._images: dict[str, SectionImage | Refusal] = {}
        self._targets: dict[str, _Target] = {}

    def carry_all(
        self, chosen: tuple[Section, ...], own_shapes: Mapping[str, gpd.GeoDataFrame]
    ) -> Iterator[tuple[Section, gpd.GeoDataFrame | None, list[dict[str, Any]]]]:
        """For each target its propagated shapes (``None`` where it has no transform) and the rows of all objects."""
        for target in self.sections:
            rows: list[dict[str, Any]] = []
            kept: gpd.GeoDataFrame | None = None
            offered = [row for row in chosen if row.slide != target.slide]
            nearest = self._nearest(target, offered)
            for source in offered:
                shapes = _of_classes(own_shapes[source.slide], self.config)
                reason = self._obstacle(source, target)
                if not reason and source is not nearest:
                    assert nearest is not None
                    reason = f"the nearer section {nearest.slide} is the source for this target"
                if reason:
                    rows += [self._row(shape, source, target, DROPPED, reason) for shape in _records(shapes)]
                    continue
                kept, source_rows = self._carry(shapes, source, target)
                rows += source_rows
            if offered:
                yield target, kept, rows

    def _nearest(self, target: Section, offered: list[Section]) -> Section | None:
        """The usable source fewest sections away; of two, the earlier."""
        usable = [row for row in offered if not self._obstacle(row, target)]
        return min(usable, key=lambda row: (abs(row.section - target.section), row.section), default=None)

    def _obstacle(self, source: Section, target: Section) -> str:
        """Why nothing can be carried between two sections; empty where nothing stands in the way."""
        for role, row in (("source", source), ("target", target)):
            if row.slide in self.result.refused:
                return f"{role} {row.slide} was refused at registration: {self.result.refused[row.slide]}"
            if row.slide not in self.result.transforms:
                return f"{role} {row.slide} has no transform"
        for role, row in (("source", source), ("target", target)):
            image = self._image(row)
            if isinstance(image, Refusal):
                return f"{role} {row.slide}: {image.reason}"
        return ""

    def _image(self, row: Section) -> SectionImage | Refusal:
        if row.slide not in self._images:
            self._images[row.slide] = open_section(row.slide, row.path, row.mpp, 2 * VIEW_DIM)
        return self._images[row.slide]

    def _target(self, row: Section) -> _Target:
        if row.slide not in self._targets:
            image = self._image(row)
            assert isinstance(image, SectionImage)
            self._targets[row.slide] = _Target.of(image)
        return self._targets[row.slide]

    def _carry(
        self, shapes: gpd.GeoDataFrame, source: Section, target: Section
    ) -> tuple[gpd.GeoDataFrame, list[dict[str, Any]]]:
        if not len(shapes):
            return empty_shapes(), []
        between = Between(self.result.transforms[source.slide], self.result.transforms[target.slide])
        warped = map_shapes(shapes, between.source, between.target)
        there = self._target(target)
        measured = self._measure(shapes, warped, between, there, source, target)
        rows, kept, geometries = [], [], []
        clipped = _clipped(np.asarray(warped.geometry), there.tissue)
        for index, record in enumerate(_records(shapes)):
            reason = self._fault(warped.geometry.iloc[index], there, measured, index)
            status = DROPPED if reason else KEPT
            notes = reason or "; ".join(
                _changes(shapes.geometry.iloc[index], warped.geometry.iloc[index], clipped[index])
            )
            rows.append(self._row(record, source, target, status, notes, measured, index))
            if status == KEPT:
                kept.append(index)
                geometries.append(clipped[index])
        result = warped.iloc[kept].copy()
        result["geometry"] = gpd.GeoSeries(geometries, index=result.index, crs=None)
        result["source_slide"] = source.slide
        result["confidence"] = measured["confidence"][kept]
        return result.reset_index(drop=True), rows

    def _measure(
        self,
        shapes: gpd.GeoDataFrame,
        warped: gpd.GeoDataFrame,
        between: Between,
        there: _Target,
        source: Section,
        target: Section,
    ) -> dict[str, np.ndarray]:
        """What is known about each object (n,): area_ratio, tissue_share, above_chance, round_trip, confidence."""
        before, after = np.asarray(shapes.geometry), np.asarray(warped.geometry)
        areas = shapely.area(before)
        overall = abs(np.linalg.det(between.matrix[:2, :2]))
        centres = shapely.get_coordinates(shapely.centroid(before)).reshape(-1, 2)
        local = between.area_change(centres) / np.linalg.det(between.matrix[:2, :2])
        ratio = np.where(areas > 0, shapely.area(after) / np.maximum(areas, 1e-12) / overall, local)
        on_tissue = shapely.area(shapely.intersection(after, there.tissue)) / np.maximum(shapely.area(after), 1e-12)
        touching = shapely.intersects(after, there.tissue).astype(float)
        tissue = np.where(shapely.area(after) > 0, on_tissue, touching)
        diameter = np.maximum(2 * np.sqrt(areas / np.pi), 4 * there.image.downsample)
        trip = between.round_trip(centres)
        source_image = self._image(source)
        assert isinstance(source_image, SectionImage)
        evidence = LocalEvidence.of(source_image, there.image, between)
        above = evidence.above_chance(shapely.bounds(after))
        apart = abs(source.section - target.section)
        return {
            "area_ratio": ratio, "tissue_share": tissue, "above_chance": above, "round_trip_px": trip,
            "confidence": confidences(above, local, trip, diameter, tissue, apart),
            "sections_apart": np.full(len(before), apart),
        }  # fmt: skip

    def _fault(self, geometry: shapely.Geometry, there: _Target, measured: Mapping[str, np.ndarray], index: int) -> str:
        config = self.config
        if not np.isfinite(shapely.get_coordinates(geometry)).all() or geometry.is_empty:
            return "has no finite outline in the target"
        if not geometry.intersects(shapely.box(0, 0, *there.image.size)):
            return "lies outside the target slide"
        share, ratio = measured["tissue_share"][index], measured["area_ratio"][index]
        if share < config.min_tissue:
            return f"only {share:.0%} lies on tissue (at least {config.min_tissue:.0%})"
        if not config.min_area_ratio <= ratio <= config.max_area_ratio:
            return f"area ratio {ratio:.2f} is outside {config.min_area_ratio:g} to {config.max_area_ratio:g}"
        confidence = measured["confidence"][index]
        if confidence < config.min_confidence:
            return f"confidence {confidence:.2f} is below {config.min_confidence:g}"
        return ""

    def _row(
        self,
        record: Mapping[str, Any],
        source: Section,
        target: Section,
        status: str,
        reason: str,
        measured: Mapping[str, np.ndarray] | None = None,
        index: int = 0,
    ) -> dict[str, Any]:
        row = {
            "id": record["id"], "class": record["class"], "source": source.slide, "target": target.slide,
            "status": status, "reason": reason, "block": self.result.block,
        }  # fmt: skip
        for key, values in (measured or {}).items():
            value = values[index]
            row[key] = (
                int(value) if key == "sections_apart" else (round(float(value), 4) if np.isfinite(value) else None)
            )
        return row


def _records(shapes: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    return [{"id": i, "class": c} for i, c in zip(shapes["id"], shapes["class"], strict=True)]


def _clipped(geometries: np.ndarray, tissue: shapely.Geometry) -> list[shapely.Geometry]:
    """Areas cut at the outer border of the tissue; lines and points are left as they are."""
    areas = np.isin(shapely.get_type_id(geometries), (3, 6))
    inside = np.array(geometries, dtype=object)
    crossing = areas & ~shapely.contains(tissue, geometries)
    inside[crossing] = [same_kind(part) for part in shapely.intersection(geometries[crossing], tissue)]
    return list(inside)


def _changes(before: shapely.Geometry, warped: shapely.Geometry, clipped: shapely.Geometry) -> Iterator[str]:
    """What was done to a kept shape beyond warping it."""
    if shapely.has_z(before):
        yield "its Z was dropped: registration of flat images says nothing about it"
    if before.is_valid and shapely.get_num_coordinates(before) != shapely.get_num_coordinates(warped):
        yield "repaired after warping"
    if clipped is not warped and not clipped.equals(warped):
        yield "clipped to the tissue"
