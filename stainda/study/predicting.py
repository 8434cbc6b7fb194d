"""A trained detector applied to new slides: one after the other, each with its row in ``slides.csv``."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort.table import absolute
from stainda.errors import StaindaError, UnexpectedError
from stainda.files import output_errors, whole_file, write_csv
from stainda.links import refuse_links
from stainda.pool import OpenPool, outcomes
from stainda.progress import SILENT, Progress, Task
from stainda.study.choosing import DetectorChoice, choose_job
from stainda.study.new_slides import NewSlide, find_slides
from stainda.study.slide_prediction import FAILED, PredictionRequest, SlideResult, SlideWork, predict_in_pool

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.cohort import Cohort
    from stainda.prediction import Predictor, Wanted

SLIDE_COLUMNS = (
    "slide", "path", "status", "objects", "object_area_mm2", "tissue_area_mm2", "density_per_mm2", "mpp", "mpp_origin",
    "domain", "strategy", "job", "seed", "checkpoint", "seconds", "notes", "reason", "key",
)  # fmt: skip
"""Of ``slides.csv``; a column ``objects CLASS`` for each class stands after ``objects``."""


@dataclass(frozen=True)
class PredictedSlides:
    """What was done.

    Attributes:
        choice: the job, and why it was taken.
        notes: what a person should know about how it is applied.
        results: by slide, in the order they were named.
        tables: ``slides.csv``, ``objects.csv`` and, where files were passed over, ``passed_over.csv``.
    """

    choice: DetectorChoice
    notes: tuple[str, ...]
    results: tuple[SlideResult, ...]
    tables: tuple[Path, ...]
    passed_over: tuple[tuple[Path, str], ...] = ()

    @property
    def failed(self) -> tuple[SlideResult, ...]:
        return tuple(result for result in self.results if result.status == FAILED)

    def check(self) -> None:
        """Say which slides could not be used.

        Raises:
            StaindaError: some could not; the message has the reason of each.
        """
        if self.failed:
            reasons = "; ".join(outcome.reason for outcome in self.failed)
            rest = "" if len(self.failed) == len(self.results) else "; the others are complete"
            raise StaindaError(f"{len(self.failed)} of {len(self.results)} slides could not be used{rest}. {reasons}")

    def shapes(self) -> gpd.GeoDataFrame:
        """The objects of all slides as one table of shapes, the slide's name in the column ``slide``; coordinates are
        level-0 pixels of that slide."""
        from stainda.annotations import join_slides, read_shapes

        return join_slides(
            {result.slide: read_shapes(result.geojson) for result in self.results if result.geojson is not None}
        )


def predict_slides(
    run: str | Path,
    slides: Sequence[str | Path | Cohort],
    out: str | Path,
    *,
    strategy: str | None = None,
    job: str | None = None,
    seed: int | None = None,
    checkpoint: str | None = None,
    stain: str | None = None,
    centre: str | None = None,
    data: str | Path | None = None,
    mpp: float | None = None,
    threshold: float | None = None,
    wanted: Wanted | None = None,
    coarse: str | Path | None = None,
    coarse_share: float = 0.3,
    overwrite: bool = False,
    pool: OpenPool | None = None,
    progress: Progress = SILENT,
    on_choice: Callable[[DetectorChoice, tuple[str, ...]], None] | None = None,
) -> PredictedSlides:
    """Find objects on slides with a trained job.

    A slide that cannot be used costs that slide: it is listed with its reason, and the others go on. What was written
    before for the same slide, job and options is kept.

    Args:
        run: a run directory, or a job's folder in one.
        slides: files, folders, manifests and cohorts; see :func:`stainda.study.new_slides.find_slides`.
        strategy, job, seed, checkpoint: see :func:`stainda.study.choosing.choose_job`.
        stain, centre: of the slides, where a manifest does not tell; strategies with statistics per domain use them.
        data: the folder that a manifest's paths are relative to.
        mpp: micrometres per level-0 pixel, where neither the manifest nor the slide tells.
        threshold: in place of those fixed on source validation.
        wanted: what is to be written next to the objects.
        coarse: a run directory or a job's folder whose detector says where to look (coarse to fine); the job is chosen
            as that of ``run``, without ``strategy``, ``job`` and ``seed``.
        coarse_share: a place is looked at where ``coarse`` reaches this share of its own threshold.
        overwrite: predict again what was predicted before.
        pool: of workers that predict the slides, one each; they see ``run``, slides and ``out`` under these paths.
            Default: here, one after the other.
        on_choice: receives the job and the notes before the first slide.

    Raises:
        StaindaError: there is no such job or no slide, or ``out`` cannot be written to.
    """
    from stainda.prediction import Wanted
    from stainda.prediction.heat_maps import check_heat_maps

    if not 0 < coarse_share <= 1:
        raise StaindaError(f"coarse_share must be above 0 and at most 1, not {coarse_share:g}")
    out, wanted = Path(out), wanted or Wanted()
    refuse_links(out)
    choice = choose_job(run, strategy=strategy, job=job, seed=seed, checkpoint=checkpoint)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    before = _read_rows(out / "slides.csv")
    taken = {row["path"]: row["slide"] for row in before.values() if row.get("path") and row.get("slide")}
    search = find_slides(slides, data=data, mpp=mpp, domain={"stain": stain or "", "centre": centre or ""}, taken=taken)
    other = None if coarse is None else choose_job(coarse)
    # torch, after all that can be refused without it
    work = PredictionRequest(choice, out, wanted, threshold, overwrite, other, coarse_share).load()
    if wanted.heat_maps:
        check_heat_maps(work.predictor)
    notes = _notes(work.predictor)
    if other is not None and work.coarse is not None:
        scale = _scale(work.coarse.predictor)
        notes = (*notes, f"where to look is said by job {other.folder} ({other.label}, {scale})")
    if on_choice is not None:
        on_choice(choice, notes)
    ended: dict[str, SlideResult] = {}
    rows: dict[str, Mapping[str, Any]] = dict(before)
    for result in _all_slides(work, search.slides, before, pool, progress):
        ended[result.slide] = result
        rows = {**before, **{slide.name: ended[slide.name].row for slide in search.slides if slide.name in ended}}
        _write_rows(out / "slides.csv", rows, work.predictor.detector.classes)
    results = [ended[slide.name] for slide in search.slides]
    tables = [out / "slides.csv", _join_objects(out, rows)]
    if search.passed_over:
        listed = [{"path": path.as_posix(), "reason": reason} for path, reason in search.passed_over]
        tables.append(write_csv(out / "passed_over.csv", listed, ("path", "reason")))
    return PredictedSlides(choice, notes, tuple(results), tuple(tables), search.passed_over)


def _all_slides(
    work: SlideWork, slides: Sequence[NewSlide], before: Mapping[str, Mapping[str, Any]], pool: OpenPool | None,
    progress: Progress,
) -> Iterator[SlideResult]:  # fmt: skip
    """What became of each slide, in the order in which they end."""
    if pool is None:
        for number, slide in enumerate(slides, start=1):
            yield work.do(slide, before.get(slide.name), _Counted(progress, slide.name, number, len(slides)))
        return
    request = work.request.elsewhere()
    jobs = {
        slide.name: (request, replace(slide, path=absolute(slide.path)), before.get(slide.name)) for slide in slides
    }
    with progress.task("Predicting slides", len(slides)) as bar, pool(predict_in_pool) as workers:
        for outcome in outcomes(workers, jobs):
            slide = jobs[outcome.key][1]
            if outcome.died:
                yield work.failure(slide, UnexpectedError(str(outcome.reason), file=slide.path))
            else:
                yield outcome.result()
            bar.advance(note=outcome.key)


def _scale(predictor: Predictor) -> str:
    patches = predictor.patches
    return f"{patches.mpp:g} µm per pixel" if patches.mpp is not None else f"downsample {patches.downsample:g}"


def _notes(predictor: Predictor) -> tuple[str, ...]:
    """How the strategy is applied to slides of which nothing else is known."""
    strategy, notes = predictor.detector.strategy, []
    if strategy.after.needs_block:
        notes.append(
            f"{strategy.after.name} compares the objects of neighbouring registered sections; of single slides there "
            "are none, so that step is left out and the objects are those of the network alone"
        )
    if predictor.uses_domains:
        known = ", ".join(sorted(predictor.detector.statistics)) or "none"
        notes.append(
            f"batch statistics are kept per domain ({known}); slides of other domains, and those whose "
            f"{' and '.join(predictor.domain_keys)} are not stated, give their own, from tiles of their tissue"
        )
    return tuple(notes)


def _read_rows(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return {row["slide"]: row for row in csv.DictReader(stream)}
    except (KeyError, ValueError, csv.Error) as error:
        raise StaindaError(
            f"not a table of predictions ({error})", file=path, remedy="Choose another folder with --out"
        ) from error


def _write_rows(path: Path, rows: Mapping[str, Mapping[str, Any]], classes: Sequence[str]) -> None:
    counted = [f"objects {cls}" for cls in classes]
    counted += sorted({key for row in rows.values() for key in row if key.startswith("objects ")} - set(counted))
    at = SLIDE_COLUMNS.index("objects") + 1
    columns = [*SLIDE_COLUMNS[:at], *counted, *SLIDE_COLUMNS[at:]]
    write_csv(path, ({key: row.get(key) for key in columns} for row in rows.values()), columns)


def _join_objects(out: Path, rows: Mapping[str, Mapping[str, Any]]) -> Path:
    """The tables of all slides as one."""
    from stainda.prediction.outputs import OBJECT_COLUMNS

    path = out / "objects.csv"
    with whole_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        stream.write(",".join(OBJECT_COLUMNS) + "\r\n")
        for name, row in rows.items():
            table = out / "objects" / f"{name}.csv"
            if row.get("status") == FAILED or not table.is_file():
                continue
            with table.open(newline="", encoding="utf-8") as part:
                next(part)
                stream.writelines(part)
    return path


@dataclass(frozen=True)
class _Counted:
    """Progress of one slide, which says how many there are."""

    progress: Progress
    name: str
    number: int
    total: int

    @contextlib.contextmanager
    def task(self, description: str, total: float) -> Iterator[Task]:
        with self.progress.task(f"{self.number}/{self.total} {self.name}", total) as bar:
            yield bar

    def message(self, text: str) -> None:
        self.progress.message(text)
