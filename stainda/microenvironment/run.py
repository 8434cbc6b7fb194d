"""The whole stage: every block of a cohort is measured, pooled and written into the run directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stainda.cohort import Cohort
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.errors import StaindaError
from stainda.files import fingerprint, load_json, stable_hash, write_json, write_text
from stainda.microenvironment.blocks import Block, find_file
from stainda.microenvironment.compartments import compartment_rows
from stainda.microenvironment.curves import MeasuredCurves, curve_rows
from stainda.microenvironment.density_maps import clustering, density_map
from stainda.microenvironment.files import write_cells, write_map, write_structures
from stainda.microenvironment.identities import Identity
from stainda.microenvironment.measure import SectionMeasures, measure_section, pooled_density
from stainda.microenvironment.pooling import by, group_rows, patient_rows
from stainda.microenvironment.rows import (
    identity_rows,
    methods_text,
    slide_rows,
    structure_rows,
    who,
    zone_rows,
)
from stainda.microenvironment.table_values import Row, known
from stainda.progress import SILENT, Progress
from stainda.randomness import generator_for
from stainda.run_directory.contents import OWN, PROPAGATED
from stainda.run_directory.declaration import File, Table
from stainda.run_directory.microenvironment_tables import (
    CLUSTERING,
    COMPARTMENTS,
    CURVES,
    DETECTED,
    DETECTED_CELLS,
    DETECTED_PROPAGATED,
    ERRORS,
    GROUPS,
    IDENTITIES,
    INPUTS,
    LEFT_OUT,
    METHODS,
    MICROENVIRONMENT_TABLES,
    PATIENTS,
    SLIDES,
    STRUCTURES,
    ZONES,
)
from stainda.run_directory.tables import QUALITY

ALGORITHM = 5
"""Raised when the same input gives other numbers; what is there is then measured again."""


@dataclass
class _Rows:
    """Rows of all tables, by table."""

    of: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, table: Table, rows: Iterable[Row]) -> None:
        self.of.setdefault(table.path, []).extend(rows)

    def write(self, root: Path) -> None:
        for table in MICROENVIRONMENT_TABLES:
            table.write(table.at(root).parent, self.of.get(table.path, []))


def measure_microenvironment(
    cohort: Cohort,
    config: MicroenvironmentConfig,
    root: str | Path,
    *,
    spacing_um: float = 3.0,
    seed: int = 1,
    progress: Progress = SILENT,
) -> Path:
    """Measure cells about structures on every section of the wanted stains.

    Reads the registration, the annotations and the propagated outlines of the run directory ``root``, and the slides;
    writes the folder ``microenvironment`` there. Nothing is done where all it depends on is as it was.

    Args:
        spacing_um: from one section number of a block to the next.

    Returns:
        The folder.

    Raises:
        StaindaError: no section has one of the stains, none could be measured, or a file is missing.
    """
    root = Path(root)
    folder = INPUTS.at(root).parent
    if not any(section.stain in config.stains for section in cohort):
        raise StaindaError(
            f"no section is stained {' or '.join(config.stains)}",
            file=cohort.source,
            remedy=f"Set microenvironment.stains to one of: {', '.join(sorted({section.stain for section in cohort}))}",
        )
    key = _key(cohort, config, root, spacing_um, seed)
    if _read_key(root) == key:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    rows = _Rows()
    measured: list[SectionMeasures] = []
    identities: list[Identity] = []
    blocks = cohort.blocks()
    with progress.task("Measuring the micro-environment", len(blocks)) as task:
        for name, sections in blocks.items():
            block = Block(name, sections, root, config, spacing_um)
            data_of_sections, named = block.read()
            for data in data_of_sections:
                measures = measure_section(data, config, generator_for(seed, data.section.slide, "microenvironment"))
                _section_rows(rows, measures, config, root, seed)
                measured.append(measures)
            identities += named
            rows.add(ERRORS, block.error_rows())
            rows.add(LEFT_OUT, [vars(excluded) for excluded in block.left_out])
            task.advance(1, name)
    if not measured:
        reasons = "; ".join(sorted({row["reason"] for row in rows.of.get(LEFT_OUT.path, [])}))
        raise StaindaError(
            f"no section could be measured: {reasons}",
            file=cohort.source,
            remedy="Propagate outlines first (stainda propagate), annotate these sections, or give outline_files",
        )
    rows.add(IDENTITIES, identity_rows(identities, config.level))
    for stain, some in by(measured, lambda measures_: measures_.data.section.stain).items():
        rng = generator_for(seed, stain, "microenvironment groups")
        patients = patient_rows(some, config, rng)
        rows.add(PATIENTS, patients)
        rows.add(GROUPS, group_rows(patients, config, rng))
        curves = [
            MeasuredCurves(who.slide, who.patient, who.group, stain, measures_.curves)
            for measures_ in some
            for who in [measures_.data.section]
        ]
        rows.add(CURVES, curve_rows(curves, config, rng))
    rows.write(root)
    patients_seen = {section.data.section.patient for section in measured}
    write_text(METHODS.at(root), methods_text(config, len(measured), len(patients_seen)) + "\n")
    write_json(INPUTS.at(root), {"key": key})
    return folder


def _section_rows(
    rows: _Rows, measures: SectionMeasures, config: MicroenvironmentConfig, root: Path, seed: int
) -> None:
    data = measures.data
    rng = generator_for(seed, data.section.slide, "microenvironment over structures")
    rows.add(STRUCTURES, structure_rows(measures))
    rows.add(ZONES, zone_rows(measures))
    rows.add(SLIDES, slide_rows(measures, pooled_density([measures.each], measures.zones, config, rng), config.level))
    rows.add(COMPARTMENTS, [{**who(data), **row} for row in compartment_rows(measures.compartments, config.level)])
    width, height = (side * data.mpp for side in data.size)
    squares = density_map(data.xy, data.window, (width, height), config.map_um)
    rows.add(CLUSTERING, [{**who(data), **_rounded(clustering(data.xy, data.window, squares, rng))}])
    write_cells(measures, root)
    write_structures(measures, root)
    write_map(data, squares, root)


def _rounded(row: dict[str, Any]) -> Row:
    return {name: known(value, 5) if isinstance(value, float | np.floating) else value for name, value in row.items()}


def _key(cohort: Cohort, config: MicroenvironmentConfig, root: Path, spacing_um: float, seed: int) -> str:
    """Hash of everything the measurements depend on."""
    rows = [
        [section.slide, section.patient, section.group, section.block, section.section, section.stain, section.mpp,
         fingerprint(section.path),
         [fingerprint(path) for path in section.annotation_files],
         [fingerprint(table.at(root, slide=section.slide)) for table in _read_from(config)],
         [_print(folder, section.slide) for folder in (config.cell_files, config.outline_files) if folder is not None]]
        for section in cohort
    ]  # fmt: skip
    registered = fingerprint(QUALITY.at(root))
    return stable_hash([ALGORITHM, config.model_dump(mode="json"), registered, rows, spacing_um, seed], 32)


def _read_from(config: MicroenvironmentConfig) -> list[File]:
    """Files of the run directory that are read of every section."""
    detected = [DETECTED, DETECTED_PROPAGATED] if "detected" in config.outlines else []
    return [OWN, PROPAGATED, *detected, *([DETECTED_CELLS] if config.cells == "network" else [])]


def _print(folder: Path, slide: str) -> list[Any] | None:
    path = find_file(folder, slide)
    return None if path is None else fingerprint(path)


def _read_key(root: Path) -> str:
    try:
        return str(load_json(INPUTS.at(root))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # not there, or not whole: measured again
