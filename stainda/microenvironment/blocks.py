"""The sections of a block made ready: cells, outlines with the error of their place, identities and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from stainda.annotations import empty_shapes, load_shapes, read_shapes
from stainda.cohort.types import Section
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.errors import RegistrationError, StaindaError
from stainda.microenvironment.cells import Cells, detect_cells, read_cells
from stainda.microenvironment.identities import Identity, Profiles, identify
from stainda.microenvironment.position_error import PositionError, between_sections, landmark_error
from stainda.microenvironment.section import (
    Compartment,
    Floats,
    LeftOut,
    SectionData,
    Structures,
    ignored_of,
    tissue_window,
    usable,
)
from stainda.names import file_name
from stainda.registration.coverage import Ground
from stainda.registration.results import BlockResult, load_block
from stainda.registration.sections import SectionImage, open_section
from stainda.registration.transforms import Between
from stainda.run_directory.contents import OWN, PROPAGATED
from stainda.run_directory.microenvironment_tables import DETECTED, DETECTED_CELLS, DETECTED_PROPAGATED
from stainda.slides import open_slide

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.slides import Slide

IMAGE_DIM = 2048
"""Longest side of the images on which the error of a registration is measured, pixels."""
WITHOUT = {
    "own": "not annotated", "files": "no outlines in outline_files", "propagated": "no propagated outlines",
    "detected": "no outlines of the detector (detections/predicted/structures/slides.csv says what it looked at)",
}  # fmt: skip
"""Why there are no outlines of a section, by the place where they were looked for."""
SUFFIXES = (".geojson", ".json", ".csv", ".xml", ".zip", ".geojson.gz", ".csv.gz")


@dataclass
class Block:
    """One block: its sections, its registration where there is one, and what is read of it, kept.

    Attributes:
        root: the run directory.
    """

    name: str
    sections: Sequence[Section]
    root: Path
    config: MicroenvironmentConfig
    spacing_um: float
    left_out: list[LeftOut] = field(default_factory=list)
    _images: dict[str, SectionImage | None] = field(default_factory=dict)
    _errors: dict[tuple[str, str], PositionError] = field(default_factory=dict)
    _registered: BlockResult | None = None

    def __post_init__(self) -> None:
        try:
            self._registered = load_block(self.root / "registration", self.name)
        except RegistrationError:
            self._registered = None  # outlines drawn on the section itself need none; what needs it says so below

    @property
    def registered(self) -> BlockResult | None:
        return self._registered

    def measured(self) -> list[Section]:
        """The sections whose cells count."""
        return [section for section in self.sections if section.stain in self.config.stains]

    def read(self) -> tuple[list[SectionData], list[Identity]]:
        """The measured sections that can be, with identities, and the structures of the block."""
        read_sections: list[SectionData] = []
        for section in self.measured():
            data = self._read(section)
            if data is not None:
                read_sections.append(data)
        return self._identified(read_sections)

    # -- one section ------------------------------------------------------------------------------------------------

    def _read(self, section: Section) -> SectionData | None:
        with open_slide(section.path, mpp=section.mpp) as slide:
            mpp = slide.require_mpp("to measure distances")
            shapes, how = self._outlines(section, slide)
            if shapes is not None and self._lacks_cells(section):
                shapes, how = None, "no cells of the detector (detections/predicted/cells/slides.csv says why)"
            if shapes is None:
                self.left_out.append(LeftOut(section.slide, "section", 1, how))
                return None
            own = self._own(section, slide)
            window = tissue_window(slide, mpp, ignored_of(own), self.config.min_hole_um2)
            if window.area <= 0:
                self.left_out.append(LeftOut(section.slide, "section", 1, "no tissue was found"))
                return None
            structures = Structures.of(shapes, mpp, section.slide, self._error_of(shapes, section))
            structures, left_out = usable(structures, window, self.config, section.slide)
            cells = self._cells(section, slide)
            kept = window.contains(cells.xy * mpp) if len(cells) else np.zeros(0, bool)
            left_out += [LeftOut(section.slide, "cells", number, reason) for reason, number in cells.left_out.items()]
            if outside := int((~kept).sum()):
                left_out.append(LeftOut(section.slide, "cells", outside, "outside the tissue"))
            compartments = self._compartments(section, slide, own, mpp)
            others = cells.others * mpp
            self.left_out += left_out
            return SectionData(
                section,
                mpp,
                slide.size,
                cells,
                kept,
                cells.xy[kept] * mpp,
                others[window.contains(others)] if len(others) else others,
                structures,
                window,
                compartments,
                tuple(left_out),
                how,
            )

    def _lacks_cells(self, section: Section) -> bool:
        file = DETECTED_CELLS.at(self.root, slide=section.slide)
        return self.config.cells == "network" and not file.is_file()

    def _cells(self, section: Section, slide: Slide) -> Cells:
        if self.config.cells == "classical":
            return detect_cells(slide, self.config.detection)
        if self.config.cells == "network":
            return read_cells(DETECTED_CELLS.at(self.root, slide=section.slide), self.config.cell_classes, slide)
        assert self.config.cell_files is not None
        path = find_file(self.config.cell_files, section.slide)
        if path is None:
            raise StaindaError(
                f"no cells of {section.slide}",
                file=self.config.cell_files,
                remedy=f"Put a file {file_name(section.slide)}.geojson (or .csv) there, or leave its stain out",
            )
        return read_cells(path, self.config.cell_classes, slide)

    def _outlines(self, section: Section, slide: Slide) -> tuple[gpd.GeoDataFrame | None, str]:
        """Outlines of the wanted classes from the first place that has a file, and its name; or why there are none."""
        tried = []
        for place in self.config.outlines:
            shapes = self._place(place, section, slide)
            if shapes is not None:
                return shapes[shapes["class"].isin(self.config.structures)].reset_index(drop=True), place
            tried.append(WITHOUT[place])
        refused = self._registered.refused.get(section.slide) if self._registered else None
        reason = f"refused at registration: {refused}" if refused else "; ".join(tried)
        return None, reason

    def _place(self, place: str, section: Section, slide: Slide) -> gpd.GeoDataFrame | None:
        """All shapes of a section in one of the places of ``outlines``; ``None`` where there is no file."""
        if place == "own":
            return self._own(section, slide)
        if place == "files":
            assert self.config.outline_files is not None
            path = find_file(self.config.outline_files, section.slide)
            return None if path is None else load_shapes(path, slide=slide)[0]
        if place == "detected":
            detected = self._detected(section)
            return _read(DETECTED_PROPAGATED.at(self.root, slide=section.slide)) if detected is None else detected
        return _read(PROPAGATED.at(self.root, slide=section.slide))

    def _own(self, section: Section, slide: Slide | None = None) -> gpd.GeoDataFrame | None:
        path = OWN.at(self.root, slide=section.slide)
        if path.is_file():
            return read_shapes(path)
        if section.annotations is None:
            return None
        if slide is not None:
            return load_shapes(section.annotations, slide=slide, origin=section.annotation_origin)[0]
        with open_slide(section.path, mpp=section.mpp) as opened:
            return load_shapes(section.annotations, slide=opened, origin=section.annotation_origin)[0]

    def _detected(self, section: Section) -> gpd.GeoDataFrame | None:
        """What the trained detector found on the section itself."""
        detected = None
        if section.stain in self.config.detected_on:
            detected = _read(DETECTED.at(self.root, slide=section.slide))
        return None if detected is None else detected.assign(source_slide=section.slide)

    def _drawn(self, section: Section) -> gpd.GeoDataFrame | None:
        """Outlines that were drawn or detected on a section that is not measured."""
        if "detected" not in self.config.outlines:
            return self._own(section)
        own = self._own(section) if "own" in self.config.outlines else None
        return self._detected(section) if own is None else own

    def _compartments(
        self, section: Section, slide: Slide, own: gpd.GeoDataFrame | None, mpp: float
    ) -> dict[str, Compartment]:
        """Areas of the wanted classes, each from the first place that has it: the section itself, then ``outlines``."""
        areas: dict[str, Compartment] = {}
        for place in dict.fromkeys(("own", *self.config.outlines)):
            wanted = [name for name in self.config.compartments if name not in areas]
            shapes = (own if place == "own" else self._place(place, section, slide)) if wanted else None
            if shapes is None:
                continue
            for name in wanted:
                mine = np.asarray(shapes.geometry.values, object)[(shapes["class"] == name).to_numpy(bool)]
                if len(mine):
                    area = shapely.union_all(shapely.make_valid(mine))
                    areas[name] = Compartment(shapely.transform(area, lambda xy: xy * mpp), place)
        return areas

    # -- errors -----------------------------------------------------------------------------------------------------

    def _error_of(self, shapes: gpd.GeoDataFrame, section: Section) -> Floats:
        """Micrometres by which each outline may be off on a section."""
        error = np.zeros(len(shapes))
        sources = shapes["source_slide"].astype(str).to_numpy()
        centres = shapely.get_coordinates(shapely.centroid(shapes.geometry.values)).reshape(-1, 2)
        for source in {*sources} - {"", section.slide}:
            rows = sources == source
            error[rows] = self.error_between(source, section.slide).at(centres[rows])
        return error

    def error_between(self, source: str, target: str) -> PositionError:
        """Error of going from one section to another, measured once."""
        if source == target:
            return PositionError.constant(0.0, "same section")
        if self.config.error_um is not None:
            return PositionError.constant(self.config.error_um, "assumed")
        key = (source, target)
        if key not in self._errors:
            self._errors[key] = self._measured_error(source, target)
        return self._errors[key]

    def _measured_error(self, source: str, target: str) -> PositionError:
        block = self._registered
        if block is None or not {source, target} <= set(block.transforms):
            return PositionError.constant(float("nan"), "unknown")
        between = Between(block.transforms[source], block.transforms[target])
        image = self._image(target)
        landmark_um = landmark_error(block, source, target, None if image is None else image.mpp)
        return between_sections(between, self._image(source), image, landmark_um)

    def _image(self, slide: str) -> SectionImage | None:
        if slide not in self._images:
            row = next(section for section in self.sections if section.slide == slide)
            opened = open_section(slide, row.path, row.mpp, IMAGE_DIM)
            self._images[slide] = opened if isinstance(opened, SectionImage) else None
        return self._images[slide]

    def error_rows(self) -> list[dict[str, object]]:
        return [
            {"block": self.name, "source": source, "target": target, "error_um": error.median,
             "p90_um": float(np.quantile(error.um, 0.9)), "evidence": error.source, "nodes": len(error.nodes)}
            for (source, target), error in self._errors.items()
        ]  # fmt: skip

    # -- identities -------------------------------------------------------------------------------------------------

    def _identified(self, read_sections: list[SectionData]) -> tuple[list[SectionData], list[Identity]]:
        """Structures of all sections named alike where they are one; needs the registration of the block."""
        block = self._registered
        if block is None or block.reference is None:
            return [self._unnamed(data) for data in read_sections], []
        profiles = self._profiles(read_sections, block)
        if not profiles:
            return [self._unnamed(data) for data in read_sections], []
        reference = next(section for section in self.sections if section.slide == block.reference)
        with open_slide(reference.path, mpp=reference.mpp) as slide:
            mpp = slide.require_mpp("to measure in the frame of the block")
        errors = {slide: self.error_between(slide, block.reference).median for slide in profiles}
        names, identities = identify(self.name, profiles, block.transforms, errors, mpp, self.spacing_um)
        named = []
        for data in read_sections:
            mine = names.get(data.section.slide, {})
            identity = np.array([mine.get(key, "") for key in data.structures.ids], dtype=object)
            named.append(replace(data, structures=data.structures.named(identity)))
        return named, identities

    def _unnamed(self, data: SectionData) -> SectionData:
        own = np.array([f"{data.section.slide}/{key}" for key in data.structures.ids], dtype=object)
        return replace(data, structures=data.structures.named(own))

    def _profiles(self, read_sections: Sequence[SectionData], block: BlockResult) -> dict[str, Profiles]:
        """Outlines by section, in the order of the cut: drawn ones, and those that are measured."""
        measured = {data.section.slide: data for data in read_sections}
        sources = {source for data in read_sections for source in data.structures.sources.tolist()}
        profiles: dict[str, Profiles] = {}
        for section in sorted(self.sections, key=lambda member: member.section):
            slide = section.slide
            if slide not in block.transforms:
                continue
            if slide in measured:
                structures, mpp = measured[slide].structures, measured[slide].mpp
                outlines = shapely.transform(structures.outlines, lambda xy, mpp=mpp: xy / mpp)
                drawn = structures.sources == slide
                tissue = shapely.transform(measured[slide].window.shape, lambda xy, mpp=mpp: xy / mpp)
                profiles[slide] = Profiles(section.section, outlines, structures.ids, structures.classes, drawn, tissue)
            elif "own" in self.config.outlines or slide in sources:
                shapes = self._drawn(section)
                shapes = empty_shapes() if shapes is None else shapes[shapes["class"].isin(self.config.structures)]
                if len(shapes):
                    outlines = np.asarray(shapes.geometry.values, object)
                    drawn = np.ones(len(shapes), bool)
                    ids, classes = (shapes[name].to_numpy(object) for name in ("id", "class"))
                    image = self._image(slide)
                    tissue = shapely.Polygon() if image is None else Ground.of(image).tissue
                    profiles[slide] = Profiles(section.section, outlines, ids, classes, drawn, tissue)
        return profiles


def _read(path: Path) -> gpd.GeoDataFrame | None:
    return read_shapes(path) if path.is_file() else None


def find_file(folder: Path, slide: str) -> Path | None:
    """The file of a slide in a folder, whatever its format."""
    return next((path for suffix in SUFFIXES if (path := folder / f"{file_name(slide)}{suffix}").is_file()), None)
