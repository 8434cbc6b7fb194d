"""The stages as single steps, for those who want one of them: from a manifest, without a study file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda import names
from stainda.cohort import Cohort, read_manifest
from stainda.config import PropagationConfig, RegistrationConfig
from stainda.config.load import validated
from stainda.errors import SlideError, StaindaError, did_you_mean
from stainda.progress import SILENT, Progress
from stainda.run_directory.folder import RunFolder, read_study
from stainda.study.dispatch import run_study
from stainda.study.environment import free_cores
from stainda.study.gather import write_cohort
from stainda.study.inputs import is_study

if TYPE_CHECKING:
    import pandas as pd


def register(
    given: str | Path,
    out: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> tuple[Path, pd.DataFrame]:
    """Register the sections of a study or of a manifest.

    Args:
        given: a study file, whose settings and run directory are used, or a manifest.
        out: the run directory; needed with a manifest.
        changes: settings of :class:`~stainda.config.RegistrationConfig` by name, also instead of the study's.

    Returns:
        The run directory, and the table of ``registration/quality.csv``.

    Raises:
        StaindaError: neither a study nor a manifest, no run directory, or a stage's own error.
    """
    changes = dict(changes or {})
    if is_study(given):
        root = run_study(
            given, out, overrides=_overrides("registration", changes, workers), data=data, until="register",
            progress=progress,
        )  # fmt: skip
        import pandas as pd

        return root, pd.read_csv(root / "registration" / "quality.csv")
    config = validated(RegistrationConfig, changes, "stainda register")
    root = _needed(out, given)
    return root, register_manifest(given, root, config, data=data, workers=workers, progress=progress)


def propagate(
    given: str | Path,
    out: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    progress: Progress = SILENT,
) -> tuple[Path, pd.DataFrame]:
    """Carry annotations across the sections of a study or of a manifest that is registered; arguments as in
    :func:`register`, with settings of :class:`~stainda.config.PropagationConfig`.

    Returns:
        The run directory, and the table of ``annotations/propagation.csv``; of a study that rotates, of all rotations.
    """
    changes = dict(changes or {})
    if is_study(given):
        root = run_study(
            given, out, overrides=_overrides("propagation", changes), data=data, until="propagate", progress=progress
        )
        import pandas as pd

        tables = sorted(root.glob("annotations/propagation.csv")) or sorted(
            root.glob("rotations/*/annotations/propagation.csv")
        )
        return root, pd.concat([pd.read_csv(table) for table in tables], ignore_index=True)
    config = validated(PropagationConfig, changes, "stainda propagate")
    root = _needed(out, given)
    return root, propagate_manifest(given, root, config, data=data, progress=progress)


def _overrides(section: str, changes: Mapping[str, Any], workers: int | None = None) -> list[str]:
    found = [f"{section}.{name}={json.dumps(value)}" for name, value in changes.items()]
    return found if workers is None else [*found, f"workers={workers}"]


def _needed(out: str | Path | None, manifest: str | Path) -> Path:
    if out is None:
        raise StaindaError(
            "a manifest names no run directory", file=manifest, remedy=f"Give one: --out runs/{names.stem(manifest)}"
        )
    return Path(out)


def register_manifest(
    manifest: str | Path,
    out: str | Path,
    config: RegistrationConfig | None = None,
    *,
    data: str | Path | None = None,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """Register every block of a manifest; returns the table of ``registration/quality.csv``."""
    cohort = read_manifest(manifest, data)  # its faults are told before anything slow is imported
    from stainda.registration import register_cohort

    folder = RunFolder(Path(out))
    with folder.locked():
        return register_cohort(
            cohort,
            config or RegistrationConfig(),
            folder.root,
            workers=workers or free_cores(),
            progress=progress,
        )


def propagate_manifest(
    manifest: str | Path,
    out: str | Path,
    config: PropagationConfig | None = None,
    *,
    data: str | Path | None = None,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """Carry the annotations of a registered manifest to the other sections; returns ``annotations/propagation.csv``.

    ``cohort.csv`` is written too, so that the result can be reviewed.

    Raises:
        StaindaError: nothing is registered in ``out``, no section (of the wanted stains) is annotated, or none has a
            shape of the wanted classes.
    """
    config = config or PropagationConfig()
    cohort = read_manifest(manifest, data)
    folder = RunFolder(Path(out))
    if not (folder.registration / "quality.csv").is_file():
        raise StaindaError(
            "nothing is registered here",
            file=folder.root,
            remedy=f"Run 'stainda register {manifest} --out {out}' first",
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
            file=manifest,
            remedy=f"Annotated stains: {', '.join(stains) or 'none'}",
        )
    import pandas as pd

    from stainda.registration import propagate as propagate_shapes
    from stainda.review.decisions import apply_decisions, sentence

    with folder.locked():
        shapes = _own_shapes(cohort, folder, progress)
        _check_classes(config, {slide: shapes[slide] for slide in sources}, manifest)
        propagate_shapes(cohort, shapes, folder.registration, config, sources, folder.root, progress=progress)
        write_cohort(cohort, sources, shapes, folder)
        if told := sentence(apply_decisions(folder.root, shapes), folder.root):
            progress.message(told)
    return pd.read_csv(folder.annotations / "propagation.csv")


def _check_classes(config: PropagationConfig, shapes: Mapping[str, Any], manifest: str | Path) -> None:
    """Refuse classes of which no source has a shape."""
    from stainda.annotations import class_key

    there = sorted({str(name) for table in shapes.values() for name in table["class"]})
    for name in config.classes:
        if class_key(name) not in map(class_key, there):
            raise StaindaError(
                f"no annotated section has a shape of class {name!r}", file=manifest, remedy=did_you_mean(name, there)
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
    from stainda.study.combining import combine, is_rotating, read_turns
    from stainda.study.results import check_gathered

    if is_rotating(run.root):
        with run.locked():
            for turn in read_turns(run.root):
                if (turn.folder.root / "records.parquet").is_file():
                    report_run(turn.folder.root, pdf=pdf, progress=progress)
            combine(run.root)
            return make_report(run.root, progress, pdf=pdf)
    with run.locked():
        check_gathered(run)
        return make_report(run.root, progress, pdf=pdf)
