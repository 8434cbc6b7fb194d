"""One job: train a strategy under one setting and seed, then score it on every slide that may be scored.

Runs in a worker process. Whatever is complete in the job's folder is not done again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stainda.cohort import Cohort, Section
from stainda.config import EvaluationConfig
from stainda.errors import StaindaError
from stainda.files import stable_hash, write_text
from stainda.study.executor import report_step
from stainda.study.folder import RunFolder

CHECKPOINTS = ("best", "last")


@dataclass(frozen=True)
class JobRequest:
    """What a worker needs to run one job.

    ``scored`` holds the sections to score: source patients of the validation split, and the test patients of every
    domain. Their annotations serve nothing but scoring. ``scoring`` is their :func:`scoring_key`.
    """

    folder: RunFolder
    job: Any  # training.Job; named late so that importing this module does not import torch
    store: Path
    scored: Cohort
    evaluation: EvaluationConfig
    scoring: str = ""


@dataclass(frozen=True)
class JobResult:
    """What the search needs to know of a finished job."""

    score: float
    seconds: float
    cpu_seconds: float


def scoring_key(folder: RunFolder, scored: Cohort, evaluation: EvaluationConfig) -> str:
    """Hash of what records depend on beside the training: other annotations, slides or overlap are scored anew."""
    rows: list[list[Any]] = []
    for one in scored:
        state, truth = one.path.stat(), (folder.own / f"{one.slide}.geojson").read_bytes()
        about = [one.slide, one.patient, one.stain, one.centre, scored.domain(one), one.split, one.mpp]
        rows.append([*about, state.st_size, state.st_mtime_ns, hashlib.sha256(truth).hexdigest()])
    return stable_hash([evaluation.iou, rows])


def is_scored(folder: Path, scoring: str) -> bool:
    """Whether a job's records are complete and of this :func:`scoring_key`."""
    done = folder / "done"
    return done.is_file() and done.read_text(encoding="utf-8") == scoring


def run_job(key: str, request: JobRequest) -> JobResult:
    """Train and score; a reason for failure is kept in the job's ``error.txt``.

    Raises:
        StaindaError: the job cannot be completed; the reason is in the message.
    """
    folder = request.folder.job(key)
    try:
        result = _train_and_score(folder, request)
    except StaindaError as error:
        write_text(folder / "error.txt", f"{error}\n")
        raise
    except Exception as error:
        import traceback

        write_text(folder / "error.txt", traceback.format_exc())
        raise StaindaError(
            f"{type(error).__name__}: {error}", file=folder / "error.txt", remedy="The file has the traceback"
        ) from error
    (folder / "error.txt").unlink(missing_ok=True)
    return result


def _train_and_score(folder: Path, request: JobRequest) -> JobResult:
    from stainda.patches import PatchStore
    from stainda.training import read_result, train

    epochs = request.job.training.epochs
    if (result := read_result(folder)) is None:
        told = 0

        def on_epoch(epoch: int, score: float) -> None:
            nonlocal told
            told += 1
            report_step()

        (folder / "done").unlink(missing_ok=True)  # records of an earlier training are not of this one
        result = train(request.job, PatchStore.open(request.store), folder, on_epoch=on_epoch)
        report_step(max(0, epochs - told))  # stopped early
    else:
        report_step(epochs)
    if not is_scored(folder, request.scoring):
        (folder / "done").unlink(missing_ok=True)
        score_job(folder, request)
        write_text(folder / "done", request.scoring)
    return JobResult(score=result.score, seconds=result.seconds, cpu_seconds=result.cpu_seconds)


def score_job(folder: Path, request: JobRequest) -> None:
    """Apply the job's checkpoints to the slides to be scored; write ``records.parquet`` and ``predictions/``."""
    import pandas as pd

    from stainda.annotations import rasterise, read_shapes, write_geojson
    from stainda.evaluation import gather_records, make_records, score_slide, write_records
    from stainda.patches.cutting import IGNORE_CLASSES
    from stainda.prediction import load_predictor

    classes = request.job.task.classes
    predictors = {checkpoint: load_predictor(folder, checkpoint=checkpoint) for checkpoint in CHECKPOINTS}
    tables: list[pd.DataFrame] = []
    for section in request.scored:
        truth = read_shapes(request.folder.own / f"{section.slide}.geojson")
        domain = request.scored.domain(section)
        ignored = truth[truth["class"].isin(IGNORE_CLASSES)]
        labels = None
        for checkpoint, predictor in predictors.items():
            region, mpp = _region(predictor, section)
            found = predictor.probabilities_region(region, domain, section.slide, mpp)
            if labels is None:
                height, width = found.array.shape[1:]
                labels = rasterise(truth, classes, found.x, found.y, width, height, found.downsample, ignored)
            objects = predictor.objects(found)
            scores = score_slide(
                found.array,
                labels,
                classes,
                objects,
                truth,
                iou=request.evaluation.iou,
                threshold=predictor.threshold,
                ignored=ignored,
            )
            tables.append(
                make_records(
                    scores,
                    study=request.job.study,
                    strategy=request.job.strategy.name,
                    trial=0,  # which trials a job serves is in trials.csv; it may be more than one
                    seed=request.job.seed,
                    checkpoint=checkpoint,
                    job=folder.name,
                    stain=section.stain,
                    centre=section.centre,
                    domain=domain,
                    patient=section.patient,
                    slide=section.slide,
                    split="val" if section.split == "val" else "test",
                )
            )
            if checkpoint == "best":
                write_geojson(objects, folder / "predictions" / f"{section.slide}.geojson")
    write_records(gather_records(tables), folder / "records.parquet")


_KEPT_PIXELS = 256 * 2**20
"""Pixels at the working scale that a worker keeps of the slides it scores, so that its next job need not read them."""

_regions: OrderedDict[tuple[str, int, float | None, str], tuple[Any, float | None]] = OrderedDict()


def _region(predictor: Any, section: Section) -> tuple[Any, float | None]:
    """The section at the working scale and its mpp, read once per worker as long as there is room."""
    from stainda.slides import open_slide

    scale = predictor.patches.model_dump_json(include={"mpp", "downsample"})
    key = (str(section.path), section.path.stat().st_mtime_ns, section.mpp, scale)
    if key in _regions:
        _regions.move_to_end(key)
        return _regions[key]
    slide = open_slide(section.path, mpp=section.mpp)
    width, height = slide.size
    if width * height / predictor.downsample_of(slide.mpp, slide.path) ** 2 > _KEPT_PIXELS / 4:
        return predictor.region(slide), slide.mpp  # too large to keep: read tile by tile, closed when it is dropped
    with slide:
        _regions[key] = predictor.region(slide, keep=True), slide.mpp
    while sum(region.width * region.height for region, _ in _regions.values()) > _KEPT_PIXELS:
        _regions.popitem(last=False)
    return _regions[key]
