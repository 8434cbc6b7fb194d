"""Settings of the micro-environment: which cells are counted about which structures, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from stainda.config.frozen import Frozen

NullModel = Literal["shift", "relabel", "csr"]
"""What cells are compared with: toroidal shifts, random relabelling, complete spatial randomness."""


class CellDetectionConfig(Frozen):
    """The classical detector of stained cells: deconvolution on optical density, local threshold, watershed."""

    chromogen: Literal["dab", "red"] = Field("dab", description="colour of the cells: DAB (brown) or permanent red")
    mpp: float = Field(0.75, gt=0, description="micrometres per pixel at which cells are sought")
    smoothing_um: float = Field(0.8, ge=0, description="standard deviation of the blur before the threshold")
    background_um: float = Field(40.0, gt=0, description="side of the square whose median is the local background")
    above: float = Field(0.15, gt=0, description="chromogen, in optical density, above the local background")
    least: float = Field(0.22, gt=0, description="chromogen, in optical density, at the least")
    min_area_um2: float = Field(15.0, ge=0, description="smaller spots are no cells")
    max_area_um2: float = Field(600.0, gt=0, description="larger areas are no cells, and are counted as left out")
    separation_um: float = Field(2.0, gt=0, description="centres of touching cells are at least so far apart")
    neck_um: float = Field(
        1.25,
        ge=0,
        description="touching cells are parted where the stained area between them is narrower, by this from its "
        "middle to its edge, than the smaller of them; smaller: more cells are parted",
    )
    grades: tuple[float, float] = Field(
        (0.55, 0.8), description="mean optical density from which a cell is 2+ and 3+ (H-score-like)"
    )


class MicroenvironmentConfig(Frozen):
    """Cells in relation to structures, across stains; see docs/howto/microenvironment.md."""

    structures: tuple[str, ...] = Field(("glomerulus",), min_length=1, description="classes of the structures")
    stains: tuple[str, ...] = Field(("CD68",), min_length=1, description="stains of the sections whose cells count")
    outlines: tuple[Literal["own", "propagated", "files", "detected"], ...] = Field(
        ("own", "propagated"),
        min_length=1,
        description="where the outlines of a section are from, the first that there are: drawn on it, propagated "
        "to it, outline_files, or detected: found by a trained detector on the sections detected_on, and propagated",
    )
    detected_on: tuple[str, ...] = Field(
        ("PAS",), min_length=1, description="stains of the sections on which the trained detector finds structures"
    )
    detector_run: Path | None = Field(
        None, description="run directory of that detector, or the folder of a job in one; default: of this study"
    )
    detector_strategy: str | None = Field(
        None, description="strategy that trained it; default: the one the report names first"
    )
    outline_files: Path | None = Field(None, description="folder with the outlines SLIDE.geojson a detector found")
    cells: Literal["classical", "files", "network"] = Field(
        "classical",
        description="found by the classical detector, read from cell_files, or found by the trained detector cell_run",
    )
    cell_run: Path | None = Field(
        None, description="run directory of a trained detector of cells, or the folder of a job in one"
    )
    cell_files: Path | None = Field(
        None, description="folder with the cells of each slide, SLIDE.geojson, .csv, ... of any format that is read"
    )
    cell_classes: tuple[str, ...] = Field(
        (), description="classes of cells that count, of files and of networks; empty: all"
    )
    detection: CellDetectionConfig = Field(CellDetectionConfig(), description="of the classical detector")
    rings_um: tuple[float, ...] = Field(
        (25.0, 50.0, 100.0), min_length=1, description="outer distances of the rings around a structure, micrometres"
    )
    profile_um: float = Field(150.0, gt=0, description="how far the curve of density by distance reaches")
    profile_step_um: float = Field(15.0, gt=0, description="width of its steps")
    min_confidence: float = Field(0.5, ge=0, le=1, description="propagated outlines that are less sure stay out")
    max_error_um: float = Field(40.0, gt=0, description="structures placed less exactly stay out")
    error_um: float | None = Field(
        None, ge=0, description="registration error to assume; default: measured, from landmarks and the images"
    )
    min_inside: float = Field(0.5, ge=0, le=1, description="share of a structure that must lie on tissue")
    min_hole_um2: float = Field(
        10_000.0, ge=0, description="smaller holes in the tissue (lumina, Bowman's space) count as tissue"
    )
    draws: int = Field(40, ge=1, description="simulated displacements by the registration error")
    null_models: tuple[NullModel, ...] = Field(
        ("shift",),
        min_length=1,
        description="what the curves are compared with: shift (do the cells lie where the structures are?), relabel "
        "(do those of cell_classes, more than the other cells?), csr (are they anywhere at random?); the page shows "
        "the first",
    )
    simulations: int = Field(199, ge=19, description="of the envelopes")
    resamples: int = Field(2000, ge=100, description="of bootstraps and permutations")
    level: float = Field(0.95, gt=0, lt=1, description="of intervals and envelopes")
    compartments: tuple[str, ...] = Field(
        (),
        description="classes of areas (cortex, medulla, interstitium, tubule) that are quantified each: drawn on the "
        "section, or else from the places of outlines (propagated, files, or detected by the trained network)",
    )
    margin_um: float = Field(
        0.0,
        ge=0,
        description="compartments are also split into core and margin, which reaches so far to either side of their "
        "border; 0: not",
    )
    map_um: float = Field(100.0, gt=0, description="side of the squares of the density map")

    @field_validator("null_models", mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def needs_training(self) -> bool:
        """Whether structures are found by the detector of the study itself."""
        return "detected" in self.outlines and self.detector_run is None

    @model_validator(mode="after")
    def _consistent(self) -> MicroenvironmentConfig:
        if list(self.rings_um) != sorted({*self.rings_um}) or self.rings_um[0] <= 0:
            raise ValueError("rings_um must increase from above 0")
        if (self.cells == "files") != (self.cell_files is not None):
            raise ValueError("cells: files needs cell_files, and the other way round")
        if ("files" in self.outlines) != (self.outline_files is not None):
            raise ValueError("outlines: [files] needs outline_files, and the other way round")
        if "relabel" in self.null_models and (self.cells == "classical" or not self.cell_classes):
            raise ValueError(
                "null_models: relabel needs cells of several classes, and cell_classes that says which of them count: "
                "cells: files or network"
            )
        if len({*self.null_models}) < len(self.null_models):
            raise ValueError("null_models names one twice")
        if (self.cells == "network") != (self.cell_run is not None):
            raise ValueError("cells: network needs cell_run, and the other way round")
        if "detected" not in self.outlines and (self.detector_run or self.detector_strategy):
            raise ValueError("detector_run and detector_strategy need outlines: [detected]")
        return self
