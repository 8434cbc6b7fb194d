"""The micro-environment of a study, of a registered manifest, or of a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stainda.cohort import Cohort, read_manifest
from stainda.config import PropagationConfig, StudyConfig, load_study
from stainda.config.load import validated
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.errors import StaindaError
from stainda.progress import SILENT, Progress
from stainda.run_directory.contents import STUDY
from stainda.run_directory.folder import RunFolder, read_study
from stainda.run_directory.result_tables import ROTATIONS
from stainda.study.inputs import is_study
from stainda.study.microenvironment_stage import measure_study


def measure(
    given: str | Path | Cohort,
    out: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Count cells about structures; returns the run directory, which then has a folder ``microenvironment``.

    Args:
        given: a study file (what is missing before is done, to the propagated annotations, or to the trained detector
            where that finds the structures); a run directory of a study;
            or a manifest or cohort, whose run directory is ``out``.
        changes: settings of :class:`~stainda.config.microenvironment.MicroenvironmentConfig` by name, also instead of
            the study's; and ``spacing_um``, from one section number to the next, where no study says.

    Raises:
        StaindaError: no run directory, or what :func:`~stainda.microenvironment.measure_microenvironment` raises.
    """
    changes = dict(changes or {})
    if isinstance(given, Cohort) or not Path(given).is_dir():
        if isinstance(given, Cohort) or not is_study(given):
            return _of_manifest(given, out, changes, data, progress)
        from stainda.study.dispatch import Stage, run_study

        wanted = _settings(load_study(given, data=data), changes)  # faults are reported before anything is computed
        until: Stage = "report" if wanted.needs_training else "propagate"
        root = run_study(given, out, data=data, until=until, progress=progress)
    else:
        root = Path(given)
        if not STUDY.at(root).is_file():
            raise StaindaError(
                "not the run directory of a study",
                file=root,
                remedy="Give its study, or the manifest: stainda microenvironment MANIFEST.csv --out RUN",
            )
    return _of_run(root, changes, progress)


def _of_manifest(
    given: str | Path | Cohort,
    out: str | Path | None,
    changes: dict[str, Any],
    data: str | Path | None,
    progress: Progress,
) -> Path:
    if out is None:
        raise StaindaError("a manifest names no run directory", remedy="Give one: --out RUN, out='RUN'")
    cohort = given if isinstance(given, Cohort) else read_manifest(given, data)
    spacing = float(changes.pop("spacing_um", 3.0))
    config = validated(MicroenvironmentConfig, _with_paths(changes), "stainda microenvironment")
    if config.needs_training:
        raise StaindaError(
            "a manifest trains no detector", file=cohort.source,
            remedy="Name the run directory of one: detector_run=runs/mine; or give a study",
        )  # fmt: skip
    from stainda.microenvironment import measure_microenvironment
    from stainda.study.detections import find_detections

    folder = RunFolder(Path(out))
    with folder.locked(progress.message):
        find_detections(cohort, config, folder.root, PropagationConfig(spacing_um=spacing), progress)
        measure_microenvironment(cohort, config, folder.root, spacing_um=spacing, progress=progress)
    return folder.root


def _of_run(root: Path, changes: dict[str, Any], progress: Progress) -> Path:
    from stainda.report import make_report
    from stainda.study.run import StudyRun

    config = read_study(root)
    if config.protocol.rotates:
        return _of_rotations(root, changes, progress)
    folder = RunFolder(root)
    settings = _settings(config, changes)
    with folder.locked(progress.message):
        measure_study(config, StudyRun(config, folder).cohort, folder, settings, progress)
        make_report(root, progress)
    return root


def _of_rotations(root: Path, changes: dict[str, Any], progress: Progress) -> Path:
    """Every rotation has outlines of its own: each is measured in its folder, and the root's tables are theirs."""
    from stainda.study.pooled_tables import rotation_folders, write_pooled_microenvironment

    folders = rotation_folders(root) if ROTATIONS.at(root).is_file() else []
    if not folders:
        raise StaindaError(
            "no rotation of this study was begun", file=root, remedy="Run the study first: stainda run STUDY.yaml"
        )
    for folder in folders:
        progress.message(f"rotation {folder.name}")
        _of_run(folder, changes, progress)
    write_pooled_microenvironment(root)
    return root


def _settings(config: StudyConfig, changes: Mapping[str, Any]) -> MicroenvironmentConfig:
    """The study's settings with the changes put in."""
    given = {} if config.microenvironment is None else config.microenvironment.model_dump(mode="json")
    return validated(MicroenvironmentConfig, {**given, **_with_paths(changes)}, "stainda microenvironment")


def _with_paths(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Paths start from the working directory."""
    resolved = dict(changes)
    for name in ("cell_files", "outline_files", "cell_run", "detector_run"):
        if resolved.get(name) is not None:
            resolved[name] = str(Path(resolved[name]).resolve())
    return resolved
