"""Cells about structures as a stage of a study, in its run directory."""

from __future__ import annotations

from stainda.cohort import Cohort
from stainda.config import StudyConfig
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.progress import Progress
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.microenvironment_tables import INPUTS


def measure_study(
    config: StudyConfig, cohort: Cohort, folder: RunFolder, settings: MicroenvironmentConfig, progress: Progress
) -> None:
    """The sections of a study, in its run directory; the lock is held."""
    from stainda.microenvironment import measure_microenvironment
    from stainda.study.detections import find_detections

    find_detections(cohort, settings, folder.root, config.propagation, progress)
    done = INPUTS.at(folder.root).is_file()
    measure_microenvironment(
        cohort, settings, folder.root, spacing_um=config.propagation.spacing_um, seed=config.seed, progress=progress
    )
    if not done:
        progress.message(f"micro-environment: {INPUTS.at(folder.root).parent}")
