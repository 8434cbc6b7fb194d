"""The stages as single steps, for those who want one of them: from a manifest, without a study file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda import names
from stainda.cohort import Cohort, read_manifest
from stainda.config import PhantomConfig, PropagationConfig, RegistrationConfig
from stainda.config.load import validated
from stainda.errors import SlideError, StaindaError, did_you_mean
from stainda.progress import SILENT, Progress
from stainda.run_directory.folder import RunFolder, read_study
from stainda.run_directory.result_tables import RECORDS
from stainda.run_directory.slide_level_tables import SLIDE_SUMMARY
from stainda.run_directory.tables import QUALITY
from stainda.study.dispatch import run_study
from stainda.study.environment import free_cores
from stainda.study.gather import write_cohort
from stainda.study.inputs import is_study
from stainda.study.tables import read_propagation, read_quality

if TYPE_CHECKING:
    import pandas as pd


def make_phantom(
    out: str | Path, values: Mapping[str, Any], *, workers: int | None = None, progress: Progress = SILENT
) -> Path:
    """Make a synthetic cohort in the folder ``out``; returns its manifest.

    Args:
        values: settings of :class:`~stainda.config.PhantomConfig` by name.
        workers: processes side by side; default: the free cores.
    """
    from stainda.phantom import make_cohort

    config = validated(PhantomConfig, dict(values), "stainda phantom")
    return make_cohort(config, out, workers=workers or free_cores(), progress=progress)


def register(
    given: str | Path | Cohort,
    out: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> tuple[Path, pd.DataFrame]:
    """Register the sections of a study, of a manifest or of a cohort.

    Args:
        given: a study file, whose settings and run directory are used, a manifest, or a cohort.
        out: the run directory; needed with a manifest or a cohort.
        changes: settings of :class:`~stainda.config.RegistrationConfig` by name, also instead of the study's. Paths
            start from the working directory; ``imports`` implies the method ``import``.

    Returns:
        The run directory, and the table of ``registration/quality.csv``.

    Raises:
        StaindaError: neither a study nor a manifest, no run directory, or a stage's own error.
    """
    changes = _registration_changes(changes or {})
    if not isinstance(given, Cohort) and is_study(given):
        root = run_study(
            given, out, overrides=_overrides("registration", changes, workers), data=data, until="register",
            progress=progress,
        )  # fmt: skip
        return root, read_quality(root)
    config = validated(RegistrationConfig, changes, "stainda register")
    root = _needed(out, given)
    return root, register_manifest(given, root, config, data=data, workers=workers, progress=progress)


def propagate(
    given: str | Path | Cohort,
    out: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    progress: Progress = SILENT,
) -> tuple[Path, pd.DataFrame]:
    """Propagate annotations across the sections of a study, or of a manifest or cohort that is registered; arguments
    as in :func:`register`, with settings of :class:`~stainda.config.PropagationConfig`.

    Returns:
        The run directory, and the table of ``annotations/propagation.csv``; of a study that rotates, of all rotations.
    """
    changes = dict(changes or {})
    if not isinstance(given, Cohort) and is_study(given):
        root = run_study(
            given, out, overrides=_overrides("propagation", changes), data=data, until="propagate", progress=progress
        )
        return root, read_propagation(root)
    config = validated(PropagationConfig, changes, "stainda propagate")
    root = _needed(out, given)
    return root, propagate_manifest(given, root, config, data=data, progress=progress)


def _registration_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the study file names them, with whole paths: a study file's own paths start elsewhere."""
    result = dict(changes)
    if result.get("imports") is not None:
        result = {"method": "import", **result, "imports": str(Path(result["imports"]).resolve())}
    if "from_run" in result:
        other = result.pop("from_run")
        result |= {} if other is None else {"from": str(Path(other).resolve())}
    return result


def _overrides(section: str, changes: Mapping[str, Any], workers: int | None = None) -> list[str]:
    result = [f"{section}.{name}={json.dumps(value)}" for name, value in changes.items()]
    return result if workers is None else [*result, f"workers={workers}"]


def _needed(out: str | Path | None, given: str | Path | Cohort) -> Path:
    if out is None:
        what, manifest = ("cohort", given.source) if isinstance(given, Cohort) else ("manifest", given)
        name = "NAME" if manifest is None else names.stem(manifest)
        raise StaindaError(
            f"a {what} names no run directory", file=manifest, remedy=f"Give one: --out runs/{name}, out='runs/{name}'"
        )
    return Path(out)


def _cohort(given: str | Path | Cohort, data: str | Path | None) -> Cohort:
    return given if isinstance(given, Cohort) else read_manifest(given, data)


def register_manifest(
    manifest: str | Path | Cohort,
    out: str | Path,
    config: RegistrationConfig | None = None,
    *,
    data: str | Path | None = None,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """Register every block of a manifest, or of a cohort; returns the table of ``registration/quality.csv``."""
    cohort = _cohort(manifest, data)  # its faults are reported before anything slow is imported
    from stainda.registration import register_cohort

    folder = RunFolder(Path(out))
    with folder.locked(progress.message):
        return register_cohort(
            cohort,
            config or RegistrationConfig(),
            folder.root,
            workers=workers or free_cores(),
            progress=progress,
        )


def propagate_manifest(
    manifest: str | Path | Cohort,
    out: str | Path,
    config: PropagationConfig | None = None,
    *,
    data: str | Path | None = None,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """Propagate the annotations of a registered manifest or cohort to the other sections of their blocks; returns the
    table of ``annotations/propagation.csv``.

    ``cohort.csv`` is written too, so that the result can be reviewed.

    Raises:
        StaindaError: nothing is registered in ``out``, no section (of the wanted stains) is annotated, or none has a
            shape of the wanted classes.
    """
    config = config or PropagationConfig()
    cohort = _cohort(manifest, data)
    folder = RunFolder(Path(out))
    if not QUALITY.inside(folder.registration).is_file():
        raise StaindaError(
            "nothing is registered here",
            file=folder.root,
            remedy=f"Run 'stainda register {cohort.source or 'MANIFEST'} --out {out}' first",
        )
    sources = [
        section.slide
        for section in cohort
        if section.annotations is not None and (not config.sources or section.stain in config.sources)
    ]
    if not sources:
        stains = sorted({section.stain for section in cohort if section.annotations is not None})
        raise StaindaError(
            "no annotated section to propagate from",
            file=cohort.source,
            remedy=f"Annotated stains: {', '.join(stains) or 'none'}",
        )
    from stainda.registration import propagate as propagate_shapes
    from stainda.review.decisions import apply_decisions, sentence

    with folder.locked(progress.message):
        shapes = _own_shapes(cohort, folder, progress)
        _check_classes(config, {slide: shapes[slide] for slide in sources}, cohort.source)
        propagate_shapes(cohort, shapes, folder.registration, config, sources, folder.root, progress=progress)
        write_cohort(cohort, sources, shapes, folder)
        if changes := sentence(apply_decisions(folder.root, shapes), folder.root):
            progress.message(changes)
    return read_propagation(folder.root)


def _check_classes(config: PropagationConfig, shapes: Mapping[str, Any], manifest: Path | None) -> None:
    """Refuse classes of which no source has a shape."""
    from stainda.annotations import class_key

    drawn = sorted({str(name) for table in shapes.values() for name in table["class"]})
    for name in config.classes:
        if class_key(name) not in map(class_key, drawn):
            raise StaindaError(
                f"no annotated section has a shape of class {name!r}", file=manifest, remedy=did_you_mean(name, drawn)
            )


def _own_shapes(cohort: Cohort, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """The shapes of every annotated section, read with its slide: some formats cannot be placed without it."""
    from stainda.annotations import ClassMap, Rules
    from stainda.slides import open_slide
    from stainda.study.annotating import Annotating

    annotating = Annotating(folder, ClassMap({}), Rules())
    annotated = [section for section in cohort if section.annotations is not None]
    shapes = {}
    with progress.task("Reading annotations", len(annotated)) as bar:
        for section in annotated:
            try:
                with open_slide(section.path, mpp=section.mpp) as slide:
                    shapes[section.slide] = annotating.read(section, slide)
            except SlideError:  # such a section was refused at registration, which propagation.csv says of its shapes
                shapes[section.slide] = annotating.read(section, None)
            bar.advance(note=section.slide)
    annotating.write(progress)
    return shapes


def report_run(folder: str | Path, *, pdf: bool = False, progress: Progress = SILENT) -> Path:
    """Make ``results.csv`` and the page of a run again from its records, in one analysis; returns the page."""
    run = RunFolder(Path(folder))
    read_study(run.root)
    from stainda.report import make_report
    from stainda.study.pooled_tables import is_rotating, rotation_folders, write_pooled_slides, write_pooled_tables
    from stainda.study.results import check_gathered

    if is_rotating(run.root):
        with run.locked(progress.message):
            for rotation in rotation_folders(run.root):
                if RECORDS.at(rotation).is_file() or SLIDE_SUMMARY.at(rotation).is_file():
                    report_run(rotation, pdf=pdf, progress=progress)
            if read_study(run.root).strategies:
                write_pooled_tables(run.root)
            write_pooled_slides(run.root)
            return make_report(run.root, progress, pdf=pdf)
    with run.locked(progress.message):
        check_gathered(run)
        return make_report(run.root, progress, pdf=pdf)
