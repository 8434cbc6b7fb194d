"""``stainda predict``: the best detector of a run, or another, on new slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.cluster import Scheduler
from stainda.cli.display import ConsoleProgress, Quiet, console, show_table

if TYPE_CHECKING:
    from stainda.study.choosing import DetectorChoice
    from stainda.study.predicting import PredictedSlides

_LISTED = 8
_KINDS = {
    ".geojson": "objects for QuPath",
    ".csv": "tables of objects",
    ".tif": "probability maps",
    ".jpg": "overlays",
    ".png": "heat maps",
}


def predict(
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or the folder of a job in one.")],
    slides: Annotated[list[Path], typer.Argument(metavar="SLIDES...", help="Slides, folders of slides, manifests.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("predictions"),
    strategy: Annotated[
        str | None, typer.Option(help="A strategy of the study. Default: the one the report names first.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="A job of the study, by its name or how it begins.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="A training of the strategy. Default: the best on source validation.")
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="best or last. Default: as the study chose.")] = None,
    stain: Annotated[str | None, typer.Option(help="Stain of the slides, where no manifest tells.")] = None,
    centre: Annotated[str | None, typer.Option(help="Centre of the slides, where no manifest tells.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the slides do not say.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Default: the one fixed on source validation.")] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Also write the probabilities as OME-TIFF.")] = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write a picture with the outlines.")] = False,
    heat_map: Annotated[
        bool,
        typer.Option(
            "--heat-map",
            help="Also write a picture of the most certain objects with the places that decided (patch classifiers).",
        ),
    ] = False,
    to_origin: Annotated[
        str,
        typer.Option(
            "--to-origin",
            help="Where coordinates begin in the GeoJSON: bounds (the scanned part, as QuPath counts), level0, or "
            "auto: as QuPath.",
        ),
    ] = "auto",
    coarse: Annotated[
        Path | None,
        typer.Option(
            "--coarse",
            metavar="RUN",
            help="Coarse to fine: a run, or a job's folder, whose detector says where to look.",
        ),
    ] = None,
    coarse_share: Annotated[
        float, typer.Option("--coarse-share", help="Look where it reaches this share of its own threshold.")
    ] = 0.3,
    data: Annotated[Path | None, typer.Option("--data", help="Folder that a manifest's paths are relative to.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict again what was predicted before.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Slides side by side, each in a process.")] = 1,
    scheduler: Scheduler = None,
    quiet: Quiet = False,
) -> None:
    """Find objects on new slides; the GeoJSON opens in QuPath (File > Import objects from file).

    Takes the strategy that the report names first, chosen without target labels, and says which training that is.
    A slide that cannot be used is listed with its reason, and the others go on; the status is then not 0. Slides
    predicted before in the same way are kept.

    Examples:

    - `stainda predict runs/quickstart slide.svs --out predictions/`
    - `stainda predict runs/quickstart slides/ --stain SR --centre B --maps --overlay`
    - `stainda predict runs/quickstart manifest.csv --data ../slides --strategy macenko --seed 2`
    - `stainda predict runs/quickstart/jobs/0123456789ab slide.svs --mpp 0.25`
    - `stainda predict runs/detection slides/ --heat-map` what decided, of a classifier of patches
    - `stainda predict runs/fine slides/ --coarse runs/coarse`
    - `stainda predict runs/fine slides/ --scheduler tcp://10.0.0.1:8786` on the workers of a Dask cluster
    """
    from stainda.annotations import as_origin
    from stainda.prediction import Wanted
    from stainda.study.engines import prediction_pool
    from stainda.study.predicting import predict_slides

    progress = ConsoleProgress(quiet)
    done = predict_slides(
        run, slides, out, strategy=strategy, job=job, seed=seed, checkpoint=checkpoint, stain=stain, centre=centre,
        data=data, mpp=mpp, threshold=threshold, wanted=Wanted(maps, overlay, as_origin(to_origin), heat_map),
        coarse=coarse, coarse_share=coarse_share, overwrite=overwrite, progress=progress,
        pool=prediction_pool(run, workers, scheduler, progress), on_choice=_say_choice,
    )  # fmt: skip
    _say_done(done)
    done.check()


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _say_choice(choice: DetectorChoice, notes: tuple[str, ...]) -> None:
    _say(f"strategy: {choice.label} ({choice.strategy}): {choice.reasons[0]}")
    seed = "" if choice.seed is None else f", seed {choice.seed}"
    why = f": {choice.reasons[1]}" if len(choice.reasons) > 1 else ""
    _say(f"job: {choice.folder}{seed}, checkpoint {choice.checkpoint}{why}")
    for note in notes:
        _say(f"note: {note}")


def _say_done(done: PredictedSlides) -> None:
    rows = [
        (outcome.slide, outcome.status, *(_short(outcome.row.get(key)) for key in ("objects", "density_per_mm2", "mpp",
        "seconds")),
         outcome.reason or outcome.geojson)
        for outcome in done.results
    ]  # fmt: skip
    show_table("", ("slide", "status", "objects", "per mm²", "mpp", "seconds", "file or reason"), rows)
    slides_by_note: dict[str, list[str]] = {}
    for result in done.results:
        slides_by_note.setdefault(str(result.row.get("notes") or ""), []).append(result.slide)
    for note, slides in slides_by_note.items():
        if note:
            _say(f"{_some(slides)}: {note}")
    if done.passed_over:
        names = _some([path.name for path, _ in done.passed_over])
        _say(f"passed over, no slides: {names}; see {done.tables[-1]}")
    written = [file for outcome in done.results for file in outcome.files]
    for ending, what in _KINDS.items():
        mine = [file for file in written if file.suffix == ending]
        if mine:
            _say(f"{what}: {mine[0] if len(mine) == 1 else f'{len(mine)} files in {mine[0].parent}'}")
    _say(f"tables: {', '.join(map(str, done.tables))}")


def _some(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _short(value: object) -> object:
    """Numbers to four digits, as a table on the screen has room for; the CSV keeps all."""
    return f"{value:.4g}" if isinstance(value, float) else value
