"""The stages as single steps, for those who want one of them: from a manifest, without a study file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort import Cohort, read_manifest
from stainda.config import PropagationConfig, RegistrationConfig
from stainda.errors import SlideError, StaindaError
from stainda.progress import SILENT, Progress
from stainda.study.environment import free_cores
from stainda.study.folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd


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
    from stainda.registration import register_cohort

    cohort = read_manifest(manifest, data)
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

    Raises:
        StaindaError: nothing is registered in ``out``, or no section (of the wanted stains) is annotated.
    """
    import pandas as pd

    from stainda.registration import propagate
    from stainda.registration.decisions import apply_decisions, sentence

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
    with folder.locked():
        shapes = _own_shapes(cohort, folder, progress)
        propagate(cohort, shapes, folder.registration, config, sources, folder.root, progress=progress)
        if told := sentence(apply_decisions(folder.root, shapes), folder.root):
            progress.message(told)
    return pd.read_csv(folder.annotations / "propagation.csv")


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


def report_run(folder: str | Path, *, pdf: bool = False) -> Path:
    """Make ``results.csv`` and the page of a run again from its records, in one analysis; returns the page."""
    from stainda.report import make_report
    from stainda.study.combining import combine, is_rotating, read_turns
    from stainda.study.folder import read_study
    from stainda.study.results import check_gathered

    run = RunFolder(Path(folder))
    read_study(run.root)
    if is_rotating(run.root):
        with run.locked():
            for turn in read_turns(run.root):
                if (turn.folder.root / "records.parquet").is_file():
                    report_run(turn.folder.root, pdf=pdf)
            combine(run.root)
            return make_report(run.root, pdf=pdf)
    with run.locked():
        check_gathered(run)
        return make_report(run.root, pdf=pdf)
