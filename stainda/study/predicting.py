"""A trained detector applied to new slides: one after the other, each with its row in ``slides.csv``."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.errors import StaindaError
from stainda.files import fingerprint, load_json, output_errors, stable_hash, whole_file, write_csv
from stainda.links import refuse_links
from stainda.names import same_name
from stainda.progress import SILENT, Progress, Task
from stainda.run_directory.contents import SETTINGS
from stainda.study.choosing import DetectorChoice, choose_job
from stainda.study.new_slides import NewSlide, find_slides

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.cohort import Cohort
    from stainda.prediction import CoarseDetector, Predictor, Wanted

FORMAT = 2
"""Raised when what is written of a slide changes, so that slides predicted before are predicted again."""

PREDICTED, KEPT, FAILED = "predicted", "kept", "failed"
SLIDE_COLUMNS = (
    "slide", "path", "status", "objects", "object_area_mm2", "tissue_area_mm2", "density_per_mm2", "mpp", "mpp_origin",
    "domain", "strategy", "job", "seed", "checkpoint", "seconds", "notes", "reason", "key",
)  # fmt: skip
"""Of ``slides.csv``; a column ``objects CLASS`` for each class stands after ``objects``."""


@dataclass(frozen=True)
class SlideResult:
    """What became of one slide: its row of ``slides.csv``, and the files written (none where it failed)."""

    slide: str
    path: Path
    status: str
    row: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    reason: str = ""

    @property
    def n_objects(self) -> int:
        return int(self.row.get("objects") or 0)

    @property
    def geojson(self) -> Path | None:
        return next((file for file in self.files if file.suffix == ".geojson"), None)


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
        on_choice: receives the job and the notes before the first slide.

    Raises:
        StaindaError: there is no such job or no slide, or ``out`` cannot be written to.
    """
    from stainda.prediction import Wanted

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
    from stainda.prediction import CoarseDetector, load_predictor  # torch, after all that can be refused without it

    predictor = load_predictor(choice.folder, checkpoint=choice.checkpoint)
    notes, key, first = _notes(predictor), _job_key(choice, predictor, threshold), None
    if coarse is not None:
        other = choose_job(coarse)
        first = CoarseDetector(load_predictor(other.folder, checkpoint=other.checkpoint), coarse_share)
        notes = (*notes, f"where to look is said by job {other.folder} ({other.label}, {_scale(first.predictor)})")
        key = stable_hash([key, _job_key(other, first.predictor, None), coarse_share])
    if on_choice is not None:
        on_choice(choice, notes)
    work = _Work(choice, predictor, out, wanted, threshold, overwrite, key, first)
    rows: dict[str, Mapping[str, Any]] = dict(before)
    results = []
    for number, slide in enumerate(search.slides, start=1):
        counted = _Counted(progress, slide.name, number, len(search.slides))
        result = work.do(slide, rows.get(slide.name), counted)
        rows[slide.name] = result.row
        results.append(result)
        _write_rows(out / "slides.csv", rows, predictor.detector.classes)
    tables = [out / "slides.csv", _join_objects(out, rows)]
    if search.passed_over:
        listed = [{"path": path.as_posix(), "reason": reason} for path, reason in search.passed_over]
        tables.append(write_csv(out / "passed_over.csv", listed, ("path", "reason")))
    return PredictedSlides(choice, notes, tuple(results), tuple(tables), search.passed_over)


@dataclass(frozen=True)
class _Work:
    """What is the same for all slides of a call."""

    choice: DetectorChoice
    predictor: Predictor
    out: Path
    wanted: Wanted
    threshold: float | None
    overwrite: bool
    key: str
    coarse: CoarseDetector | None = None

    def do(self, slide: NewSlide, before: Mapping[str, Any] | None, progress: Progress) -> SlideResult:
        from stainda.prediction.outputs import output_files

        files = tuple(output_files(self.out, slide.name, self.wanted).values())
        started = time.perf_counter()
        domain, note = _domain(self.predictor, slide.domain)
        try:
            if slide.fault:
                raise StaindaError(slide.fault)
            key = self._slide_key(slide, domain)
        except (StaindaError, OSError) as error:
            return self._failure(slide, error)
        if not self.overwrite and before is not None and before.get("key") == key and _all_there(files):
            kept = {**before, "status": KEPT, "path": slide.path.resolve().as_posix()}
            return SlideResult(slide.name, slide.path, KEPT, kept, files)
        try:
            row = self._predict(slide, domain, note, progress)
        except Exception as error:  # whatever is wrong with one slide, the others go on
            for file in files:  # of another job, or of half a slide: not what was requested
                file.unlink(missing_ok=True)
            return self._failure(slide, error)
        row |= {"seconds": round(time.perf_counter() - started, 2), "key": key}
        return SlideResult(slide.name, slide.path, PREDICTED, row, files)

    def _failure(self, slide: NewSlide, error: Exception) -> SlideResult:
        known = isinstance(error, StaindaError)
        reason = str(error) if known else f"{slide.path}: {type(error).__name__}: {error}"
        return SlideResult(slide.name, slide.path, FAILED, self._row(slide, FAILED, reason=reason), (), reason)

    def _predict(self, slide: NewSlide, domain: str | None, note: str, progress: Progress) -> dict[str, Any]:
        from stainda.prediction import predict_slide

        result = predict_slide(
            self.predictor, slide.path, self.out, mpp=slide.mpp, domain=domain, threshold=self.threshold,
            wanted=self.wanted, name=slide.name, properties={"strategy": self.choice.strategy}, coarse=self.coarse,
            progress=progress,
        )  # fmt: skip

        def mm2(area: float | None) -> float | None:
            return None if area is None else round(area / 1e6, 6)

        return self._row(
            slide, PREDICTED, objects=result.n_objects, object_area_mm2=mm2(result.object_area),
            tissue_area_mm2=mm2(result.tissue_area), mpp=result.mpp, mpp_origin=result.mpp_origin, domain=domain,
            density_per_mm2=None if result.density is None else round(result.density, 4),
            notes="; ".join(filter(None, (note, *result.notes))),
            **{f"objects {cls}": count for cls, count in result.counts.items()},
        )  # fmt: skip

    def _row(self, slide: NewSlide, status: str, **values: object) -> dict[str, Any]:
        choice = self.choice
        return {
            "slide": slide.name, "path": slide.path.resolve().as_posix(), "status": status, "strategy": choice.strategy,
            "job": choice.folder.name, "seed": choice.seed, "checkpoint": choice.checkpoint, **values,
        }  # fmt: skip

    def _slide_key(self, slide: NewSlide, domain: str | None) -> str:
        """Hash of all that the result depends on."""
        if not slide.path.is_file():
            raise StaindaError("there is no such file", file=slide.path, remedy="Check the path")
        about = [fingerprint(slide.path), slide.mpp, domain]
        return stable_hash([self.key, self.wanted.origin, about])


def _job_key(choice: DetectorChoice, predictor: Predictor, threshold: float | None) -> str:
    from stainda.strategies.detector import CHECKPOINTS

    weights = hashlib.sha256((choice.folder / CHECKPOINTS[choice.checkpoint]).read_bytes()).hexdigest()
    settings = load_json(SETTINGS.inside(choice.folder))
    return stable_hash([FORMAT, weights, settings, predictor.thresholds, threshold, choice.checkpoint])


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


def _domain(predictor: Predictor, given_domain: Mapping[str, str]) -> tuple[str | None, str]:
    """The name of a slide's domain as the job knows it (``None``: not known), and what is to be said of it."""
    keys = predictor.domain_keys
    if not any(given_domain.get(key) for key in keys):
        return None, ""
    if lacking := [key for key in keys if not given_domain.get(key)]:
        return None, f"domain not known: {' and '.join(lacking)} not reported" if predictor.uses_domains else ""
    name = "@".join(given_domain[key] for key in keys)
    if not predictor.uses_domains:
        return name, ""
    known = {same_name(statistic): statistic for statistic in predictor.detector.statistics}
    if same_name(name) in known:
        return known[same_name(name)], ""
    return name, f"{name} is none of the domains of the training ({', '.join(sorted(known.values()))})"


def _all_there(files: Sequence[Path]) -> bool:
    return all(file.is_file() for file in files)


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
