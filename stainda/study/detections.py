"""Structures and cells that trained detectors find, made ready for the micro-environment.

Below ``detections/`` of the run directory: what the detectors wrote, structures by section, the same propagated to the
other sections of their blocks, and cells by section.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort import Cohort, Section
from stainda.config import PropagationConfig
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.errors import StaindaError, did_you_mean
from stainda.files import link_or_copy, load_json
from stainda.progress import Progress
from stainda.run_directory.contents import OWN, SETTINGS
from stainda.run_directory.declaration import File
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.microenvironment_tables import DETECTED, DETECTED_CELLS

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.study.choosing import DetectorChoice

FOLDER = "detections"


def find_detections(
    cohort: Cohort, settings: MicroenvironmentConfig, root: Path, propagation: PropagationConfig, progress: Progress
) -> None:
    """Apply the trained detectors that the settings name; what was found before is kept.

    Raises:
        StaindaError: there is no such detector, its task finds no structures (or no cells), or a slide cannot be used.
    """
    if "detected" in settings.outlines:
        _find_structures(cohort, settings, root, propagation, progress)
    if settings.cells == "network":
        _find_cells(cohort, settings, root, progress)


def _find_structures(
    cohort: Cohort, settings: MicroenvironmentConfig, root: Path, propagation: PropagationConfig, progress: Progress
) -> None:
    """On the sections of the wanted stains, and from there on the others of their blocks."""
    from stainda.annotations import read_shapes

    sections = [section for section in cohort if section.stain in settings.detected_on]
    if not sections:
        stains = sorted({section.stain for section in cohort})
        raise StaindaError(
            f"no section is stained {' or '.join(settings.detected_on)}", file=cohort.source,
            remedy=f"Set microenvironment.detected_on to one of: {', '.join(stains)}",
        )  # fmt: skip
    run = settings.detector_run or root
    choice = _chosen(run, settings.detector_strategy)
    classes = _task(choice)["classes"]
    if lacking := [name for name in settings.structures if name not in classes]:
        raise StaindaError(
            f"the detector finds {', '.join(classes)}, but no {lacking[0]}", file=choice.folder,
            remedy=f"{did_you_mean(lacking[0], classes)}; set microenvironment.structures, or name another run",
        )  # fmt: skip
    files = _predicted(cohort, sections, choice, root / FOLDER / "predicted" / "structures", progress)
    _keep(files, root, DETECTED)
    shapes = {slide: read_shapes(path) for slide, path in files.items()}
    if {section.slide for section in sections} >= {
        section.slide for section in cohort if section.stain in settings.stains
    }:
        return  # every measured section has its own
    from stainda.registration import propagate

    registered = RunFolder(root).registration
    own = {slide: outlines for slide, outlines in _drawn(cohort, root).items() if slide not in shapes}
    propagate(cohort, {**own, **shapes}, registered, propagation.model_copy(update={"sources": ()}), list(shapes),
              root / FOLDER, progress=progress)  # fmt: skip


def _find_cells(cohort: Cohort, settings: MicroenvironmentConfig, root: Path, progress: Progress) -> None:
    assert settings.cell_run is not None
    choice = _chosen(settings.cell_run, None)
    check_cell_task(_task(choice), settings, choice.folder)
    sections = [section for section in cohort if section.stain in settings.stains]
    files = _predicted(cohort, sections, choice, root / FOLDER / "predicted" / "cells", progress)
    _keep(files, root, DETECTED_CELLS)


def check_cell_task(task: dict[str, Any], settings: MicroenvironmentConfig, where: Path) -> None:
    """Refuse a detector that does not find cells.

    Args:
        task: as the job's settings have it.
    """
    classes, name = task["classes"], task.get("name") or "its task"
    remedy = (
        "Name a run whose task finds cells: kind points (configs/tasks/macrophage_points.yaml is one) or instances, "
        "classification with objects: peaks (nuclei_detection.yaml), or segmentation with a small min_object_um2; or "
        "take cells: classical or files"
    )
    if structures := [name for name in classes if name in settings.structures]:
        raise StaindaError(f"no detector of cells: {name} finds {structures[0]}", file=where, remedy=remedy)
    least = task.get("min_object_um2") or 0
    sized = task.get("kind") != "points" and task.get("objects") != "peaks"
    if sized and least > settings.detection.max_area_um2:
        raise StaindaError(
            f"no detector of cells: {name} reports objects of {least:g} µm² and more, and cells have at most "
            f"{settings.detection.max_area_um2:g} µm² (detection.max_area_um2)", file=where, remedy=remedy,
        )  # fmt: skip
    if unknown := [name for name in settings.cell_classes if name not in classes]:
        raise StaindaError(
            f"the detector finds no class {unknown[0]!r}", file=where,
            remedy=f"{did_you_mean(unknown[0], classes)}; set microenvironment.cell_classes",
        )  # fmt: skip


def _chosen(run: Path, strategy: str | None) -> DetectorChoice:
    from stainda.study.choosing import choose_job

    return choose_job(run, strategy=strategy)


def _task(choice: DetectorChoice) -> dict[str, Any]:
    return dict(load_json(SETTINGS.inside(choice.folder))["task"])


def _predicted(
    cohort: Cohort, sections: Sequence[Section], choice: DetectorChoice, out: Path, progress: Progress
) -> dict[str, Path]:
    """The GeoJSON by slide; a section that cannot be used has none, and slides.csv says why.

    Raises:
        StaindaError: none can be used.
    """
    from stainda.study.predicting import predict_slides

    def report(choice: DetectorChoice, notes: tuple[str, ...]) -> None:
        progress.message(f"detector: {choice.label} ({choice.folder.name}): {'; '.join(choice.reasons)}")

    some = replace(cohort, sections=tuple(sections))
    done = predict_slides(choice.folder, [some], out, checkpoint=choice.checkpoint, progress=progress, on_choice=report)
    if len(done.failed) == len(done.results):
        done.check()
    files = {result.path.resolve(): result.geojson for result in done.results}
    return {section.slide: path for section in sections if (path := files[section.path.resolve()]) is not None}


def _keep(files: dict[str, Path], root: Path, place: File) -> None:
    """Have the files under the names of their slides, and nothing else there."""
    shutil.rmtree(place.at(root, slide="any").parent, ignore_errors=True)
    for slide, path in files.items():
        link_or_copy(path, place.at(root, slide=slide))


def _drawn(cohort: Cohort, root: Path) -> dict[str, gpd.GeoDataFrame]:
    """What was drawn on the sections: propagation compares with it (``annotations/agreement.csv``)."""
    from stainda.annotations import read_shapes

    paths = {section.slide: OWN.at(root, slide=section.slide) for section in cohort if section.annotations is not None}
    return {slide: read_shapes(path) for slide, path in paths.items() if path.is_file()}
