"""The stages as single steps, for those who want one of them: from a manifest, without a study file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.cohort import read_manifest
from stainda.config import PropagationConfig, RegistrationConfig
from stainda.errors import StaindaError
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

    from stainda.annotations import load_shapes
    from stainda.registration import propagate

    config = config or PropagationConfig()
    cohort = read_manifest(manifest, data)
    folder = RunFolder(Path(out))
    if not (folder.registration / "quality.csv").is_file():
        raise StaindaError(
            "nothing is registered here",
            file=folder.root,
            remedy=f"Run 'stainda register {manifest} --out {out}' first",
        )
    shapes = {
        section.slide: load_shapes(section.annotations)[0] for section in cohort if section.annotations is not None
    }
    sources = [
        section.slide
        for section in cohort
        if section.slide in shapes and (not config.sources or section.stain in config.sources)
    ]
    if not sources:
        stains = sorted({section.stain for section in cohort if section.annotations is not None})
        raise StaindaError(
            "no annotated section to propagate from",
            file=manifest,
            remedy=f"Annotated stains: {', '.join(stains) or 'none'}",
        )
    with folder.locked():
        propagate(cohort, shapes, folder.registration, config, sources, folder.root, progress=progress)
    return pd.read_csv(folder.annotations / "propagation.csv")


def report_run(folder: str | Path) -> Path:
    """Make ``results.csv`` and the page of a run again from its records; returns the page."""
    from stainda.report import make_report
    from stainda.study.folder import read_study
    from stainda.study.results import summarise_records

    run = RunFolder(Path(folder))
    config = read_study(run.root)
    with run.locked():
        summarise_records(config, run)
        return make_report(run.root)


def predict_slides(
    job: str | Path,
    slides: Sequence[str | Path],
    out: str | Path,
    *,
    mpp: float | None = None,
    threshold: float | None = None,
    overlay: bool = False,
    progress: Progress = SILENT,
) -> list[tuple[str, int, str]]:
    """Find objects on slides with a trained job.

    Returns:
        Name of the slide, number of objects, and the GeoJSON written, for each slide.

    Raises:
        StaindaError: slides that could not be used, all in one message; the others are complete.
    """
    from stainda.prediction import load_predictor, predict_slide

    predictor = load_predictor(Path(job))
    rows: list[tuple[str, int, str]] = []
    faults: list[str] = []
    stems = [Path(slide).stem for slide in slides]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise StaindaError(
            f"two slides are named {sorted(twice)[0]!r}; their results would overwrite each other",
            remedy="Predict them in two calls with different --out",
        )
    with progress.task("Predicting", len(slides)) as bar:
        for slide in slides:
            try:
                path, n_objects = predict_slide(
                    predictor, Path(slide), Path(out), mpp=mpp, threshold=threshold, overlay=overlay
                )
                rows.append((Path(slide).name, n_objects, str(path)))
            except StaindaError as error:
                faults.append(str(error))
            bar.advance()
    if faults:
        raise StaindaError(f"{len(faults)} of {len(slides)} slides could not be used: {'; '.join(faults)}")
    return rows
