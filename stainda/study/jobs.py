"""One job: train a strategy under one setting and seed, then score it on every slide that may be scored.

Runs in a worker process. Whatever is complete in the job's folder is not done again.
"""

from __future__ import annotations

import contextlib
import csv
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stainda.arrays import Array
from stainda.cohort import Cohort, Section
from stainda.config import EvaluationConfig
from stainda.errors import StaindaError, UnexpectedError
from stainda.files import write_json, write_text
from stainda.names import file_name
from stainda.run_directory.contents import DONE, ERROR, SETTINGS
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.result_tables import (
    CONFUSION,
    JOB_AGREEMENT,
    JOB_UNSUPERVISED,
    OBJECTS,
    PROBABILITIES,
    RECORDS,
)
from stainda.run_directory.training_tables import TRAINING
from stainda.study.attempts import attempt, forget, what_to_do
from stainda.study.executor import report_step, when_orphaned
from stainda.study.pruning import PRUNED, Pruning, read_curve, read_pruned
from stainda.study.tracking import curves
from stainda.training.metering import Costs

if TYPE_CHECKING:
    from stainda.prediction.predictor import Predictor
    from stainda.prediction.regions import SlideRegion
    from stainda.training.job import Job

CHECKPOINTS = ("best", "last")


@dataclass(frozen=True)
class JobRequest:
    """What a worker needs to run one job.

    ``scored`` holds the sections to score: source patients of the validation split, and the test patients of every
    domain. Their annotations serve nothing but scoring. ``scoring`` is their key (``keys.ScoringKeys``). A training
    made again from all source patients is scored on test patients alone, at its only weights. ``pretraining`` is the
    training without labels that it starts from.
    """

    folder: RunFolder
    job: Job
    store: Path
    scored: Cohort
    evaluation: EvaluationConfig
    scoring: str = ""
    pruning: Pruning | None = None
    pretraining: Job | None = None
    log_to: str = "none"


@dataclass(frozen=True)
class JobResult:
    """What the search needs to know of a job that has ended; ``pruned`` is the step after which it was stopped."""

    score: float
    seconds: float
    cpu_seconds: float
    pruned: int | None = None
    costs: Costs = field(default_factory=Costs)


class PrunedError(Exception):
    """Raised in a training to end it: it is too far behind the earlier trials."""


def is_scored(folder: Path, scoring: str) -> bool:
    """Whether a job's records are complete and of this key (``keys.ScoringKeys``)."""
    done = DONE.inside(folder)
    return done.is_file() and done.read_text(encoding="utf-8") == scoring


def run_job(key: str, request: JobRequest) -> JobResult:
    """Train and score; a reason for failure is kept in the job's ``error.txt``.

    Raises:
        StaindaError: the job cannot be completed; the reason is in the message.
    """
    folder = request.folder.job(key)
    try:
        with attempt(folder), when_orphaned(lambda: forget(folder)):
            result = _train_and_score(folder, request)
    except StaindaError as error:
        _note(folder, f"{error}\n")
        raise
    except Exception as error:
        import traceback

        _note(folder, traceback.format_exc())
        raise UnexpectedError(
            f"{type(error).__name__}: {error}",
            file=ERROR.inside(folder),
            remedy=f"{what_to_do(error)}The file has the traceback",
        ) from error
    ERROR.inside(folder).unlink(missing_ok=True)
    return result


def _note(folder: Path, reason: str) -> None:
    """Keep why a job failed; where that cannot be written (a full disk), trials.csv of the leader still has it."""
    with contextlib.suppress(StaindaError, OSError):
        write_text(ERROR.inside(folder), reason)


def _train_and_score(folder: Path, request: JobRequest) -> JobResult:
    from stainda.patches import PatchStore
    from stainda.training import read_result, train

    epochs, pruning = request.job.training.epochs, request.pruning
    if (result := read_result(folder)) is None:
        epochs_done, started = 0, time.process_time()

        def on_epoch(epoch: int, score: float) -> None:
            nonlocal epochs_done
            epochs_done += 1
            report_step()
            write_curves()
            if pruning is not None and epoch < epochs:
                curve, patients = read_curve(folder)
                if pruning.stops({e: value for e, value in curve.items() if e <= epoch}, patients.get(epoch, {})):
                    raise PrunedError

        if request.pretraining is not None:
            from stainda.training.pretraining import pretrain

            pretrain(request.pretraining, request.store, request.folder.pretraining(request.job.pretrained))
        DONE.inside(folder).unlink(missing_ok=True)  # records of an earlier training are not of this one
        (folder / PRUNED).unlink(missing_ok=True)
        try:
            with curves(request.log_to, request.folder.root, request.job, folder) as write_curves:
                result = train(request.job, PatchStore.open(request.store), folder, on_epoch=on_epoch)
        except PrunedError:
            assert pruning is not None
            report_step(max(0, epochs - epochs_done))
            return _give_up(
                folder, request.job.training.steps_per_epoch * epochs_done, pruning, time.process_time() - started
            )
        report_step(max(0, epochs - epochs_done))  # stopped early
    else:
        report_step(epochs)
    if not is_scored(folder, request.scoring):
        DONE.inside(folder).unlink(missing_ok=True)
        write_json(SETTINGS.inside(folder), request.job.settings())  # names and outlines may be others by now
        if not request.job.repeats:  # what checkpoints are chosen by
            look_at_targets(folder, request)
        score_job(folder, request)
        write_text(DONE.inside(folder), request.scoring)
    return JobResult(result.score, result.seconds, result.cpu_seconds, costs=result.costs)


def _give_up(folder: Path, step: int, pruning: Pruning, cpu_seconds: float) -> JobResult:
    """Write down that the job was pruned, and on what grounds."""
    from stainda.training.resume import remove_state

    remove_state(folder)
    with TRAINING.inside(folder).open(newline="", encoding="utf-8") as stream:
        last = [row for row in csv.DictReader(stream) if int(row["step"]) <= step][-1]
    result: dict[str, Any] = {
        "key": pruning.key, "pruner": pruning.pruner, "step": step, "score": float(last["val_dice"]),
        "seconds": float(last["seconds"]), "cpu_seconds": round(cpu_seconds, 2),
    }  # fmt: skip
    write_json(folder / PRUNED, result)
    return JobResult(result["score"], result["seconds"], result["cpu_seconds"], step)


def earlier_result(folder: Path, scoring: str, pruning: Pruning | None) -> JobResult | None:
    """The result of a job that is complete, or was pruned on the same grounds; ``None``: it is to be done.

    Args:
        scoring: key of the scores that it must have (``keys.ScoringKeys``).
    """
    from stainda.training import read_result

    if not is_scored(folder, scoring) or (result := read_result(folder)) is None:
        return pruned_result(folder, pruning)
    return JobResult(result.score, result.seconds, result.cpu_seconds, costs=result.costs)


def pruned_result(folder: Path, pruning: Pruning | None) -> JobResult | None:
    """The result of a job pruned earlier on the same grounds."""
    earlier = read_pruned(folder, pruning)
    if earlier is None:
        return None
    return JobResult(earlier["score"], earlier["seconds"], earlier["cpu_seconds"], int(earlier["step"]))


def objective_values(folder: Path, score: float, objectives: Sequence[str]) -> list[float]:
    """The objectives of a scored job: all on validation patients of the source domains, at the best checkpoint.

    ``source_validation`` is the pooled Dice of the training's end; ``worst_source_domain`` and ``worst_source_patient``
    are the lowest mean Dice of a domain, and the lowest Dice of a patient, over whole slides.
    """
    from stainda.evaluation import patient_scores, read_records

    values = {"source_validation": score}
    if set(objectives) != set(values):
        records = read_records(RECORDS.inside(folder))
        rows = records[(records["split"] == "val") & (records["checkpoint"] == "best") & (records["measure"] == "dice")]
        scores = patient_scores(rows, ["domain", "class"]).dropna(subset=["value"])
        if scores.empty:
            raise StaindaError("no validation slide has a score", file=folder, remedy="Take one objective")
        values["worst_source_domain"] = float(scores.groupby("domain")["value"].mean().min())
        values["worst_source_patient"] = float(scores.groupby("patient")["value"].mean().min())
    return [values[name] for name in objectives]


def look_at_targets(folder: Path, request: JobRequest) -> None:
    """Score the job's checkpoints on unlabelled target patches that training may see; write ``unsupervised.csv``."""
    from stainda.cohort import Roles
    from stainda.patches import PatchStore, TrainingData
    from stainda.strategies.detector import Detector
    from stainda.training.unsupervised import unsupervised_scores

    job = request.job
    roles = Roles(job.sources, job.targets, job.domain_keys, job.protocol.visible)
    data = TrainingData(PatchStore.open(request.store), roles, labels="source", visible=job.protocol.visible)
    rows: list[dict[str, Any]] = []
    for checkpoint in CHECKPOINTS:
        scores = unsupervised_scores(Detector.load(folder, job.settings(), checkpoint), data)
        if scores:
            rows.append({"checkpoint": checkpoint, **{name: round(value, 6) for name, value in scores.items()}})
    JOB_UNSUPERVISED.write(folder, rows)


def score_job(folder: Path, request: JobRequest) -> None:
    """Apply the job's checkpoints to the slides to be scored.

    Writes ``records.parquet`` and, of the best checkpoint, ``objects.parquet``, ``probabilities.parquet`` and
    ``predictions/``.
    """
    import pandas as pd

    from stainda.annotations import PixelGrid, bounds_of_file, rasterise, read_shapes, write_geojson
    from stainda.evaluation import (
        CONFUSION_COLUMNS,
        OBJECT_COLUMNS,
        PROBABILITY_COLUMNS,
        THRESHOLD_COLUMNS,
        confusion_rows,
        gather_records,
        make_records,
        object_confusion,
        object_rows,
        probability_rows,
        score_slide,
        slide_confusion,
        write_evidence,
        write_records,
    )
    from stainda.patches.cutting import IGNORE_CLASSES
    from stainda.patches.details import as_discs, middles, sigma_of
    from stainda.prediction import load_predictor
    from stainda.prediction.regions import tissue_pixels
    from stainda.study.block_agreement import agree_in_blocks

    classes = request.job.task.classes
    scored = CHECKPOINTS[:1] if request.job.repeats else CHECKPOINTS
    predictors = {checkpoint: load_predictor(folder, checkpoint=checkpoint) for checkpoint in scored}
    tables: list[pd.DataFrame] = []
    all_objects: list[dict[str, Any]] = []
    all_probabilities: list[dict[str, Any]] = []
    all_confusions: list[dict[str, Any]] = []
    registration = request.folder.registration
    agreements = {
        name: agree_in_blocks(predictor, request.scored, registration, _region)
        for name, predictor in predictors.items()
    }
    rows = [
        {"checkpoint": name, **row}
        for name, agreement in agreements.items()
        if agreement is not None
        for row in agreement.rows
    ]
    if rows:
        JOB_AGREEMENT.write(folder, rows)
    for section in request.scored:
        truth = read_shapes(request.folder.own / f"{file_name(section.slide)}.geojson")
        domain = request.scored.domain(section)
        ignored = truth[truth["class"].isin(IGNORE_CLASSES)]
        painted = truth
        where: dict[str, Any] = {
            "study": request.job.study,
            "strategy": request.job.strategy.name,
            "trial": 0,  # which trials a job serves is in trials.csv; it may be more than one
            "seed": request.job.seed,
            "job": folder.name,
            "stain": section.stain,
            "centre": section.centre,
            "domain": domain,
            "patient": section.patient,
            "slide": section.slide,
            "split": "val" if section.split == "val" else "test",
        }
        labels = tissue_map = None
        for checkpoint, predictor in predictors.items():
            region, mpp = _region(predictor, section)
            probabilities = predictor.probabilities_region(region, domain, section.slide, mpp)
            if labels is None:
                if request.job.task.kind == "points":
                    sigma = sigma_of(request.job.task, mpp, section.slide)
                    truth, painted = middles(truth), as_discs(truth, sigma)
                height, width = probabilities.array.shape[1:]
                grid = PixelGrid(probabilities.x, probabilities.y, width, height, probabilities.downsample)
                labels = rasterise(painted, classes, grid, ignored)
                tissue_map = resized(tissue_pixels(region), height, width)
            agreed = agreements[checkpoint]
            objects = predictor.objects(probabilities) if agreed is None else agreed.objects[section.slide]
            candidates = predictor.candidates(probabilities, objects)
            point_px = None if mpp is None else request.evaluation.point_um / mpp
            scores = score_slide(
                probabilities.array,
                labels,
                classes,
                objects,
                truth,
                iou=request.evaluation.iou,
                threshold=predictor.threshold,
                ignored=ignored,
                um_per_px=None if mpp is None else mpp * probabilities.downsample,
                tissue=tissue_map,
                point_px=point_px,
                instances=request.job.task.kind == "instances" or request.job.task.split_touching,
            )
            tables.append(make_records(scores, checkpoint=checkpoint, **where))
            if checkpoint == "best":
                path = folder / "predictions" / f"{file_name(section.slide)}.geojson"
                write_geojson(objects, path, bounds=bounds_of_file(section.path))
                about = {**where, "checkpoint": checkpoint}
                tissue = None if mpp is None else region.tissue_area * mpp**2
                all_objects += object_rows(
                    truth,
                    objects,
                    classes,
                    mpp,
                    tissue,
                    about,
                    ignored=ignored,
                    candidates=candidates,
                    point_px=point_px,
                )
                all_probabilities += probability_rows(
                    probabilities.array, labels, classes, about, tissue_map, predictor.threshold
                )
                if len(classes) > 1:
                    of_pixels = slide_confusion(
                        probabilities.array, labels, classes, threshold=predictor.threshold, tissue=tissue_map
                    )
                    of_objects = object_confusion(
                        objects, truth, classes, request.evaluation.iou, ignored=ignored, point_px=point_px
                    )
                    all_confusions += confusion_rows({"pixels": of_pixels, "objects": of_objects}, classes, about)
    write_evidence(all_objects, OBJECT_COLUMNS, OBJECTS.inside(folder))
    columns = (*PROBABILITY_COLUMNS, *THRESHOLD_COLUMNS)
    write_evidence(all_probabilities, columns, PROBABILITIES.inside(folder))
    if len(classes) > 1:
        write_evidence(all_confusions, CONFUSION_COLUMNS, CONFUSION.inside(folder))
    write_records(gather_records(tables), RECORDS.inside(folder))


def resized(mask: Array, height: int, width: int) -> Array:
    """A mask at another number of pixels, each that of the nearest: a map of cells is coarser than its region."""
    rows = np.minimum((np.arange(height) + 0.5) * mask.shape[0] / height, mask.shape[0] - 1).astype(int)
    columns = np.minimum((np.arange(width) + 0.5) * mask.shape[1] / width, mask.shape[1] - 1).astype(int)
    return mask[rows[:, None], columns]


_KEPT_PIXELS = 256 * 2**20
"""Pixels at the working scale that a worker keeps of the slides it scores, so that its next job need not read them."""

_regions: OrderedDict[tuple[str, int, float | None, str], tuple[SlideRegion, float | None]] = OrderedDict()


def _region(predictor: Predictor, section: Section) -> tuple[SlideRegion, float | None]:
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
