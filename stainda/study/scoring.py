"""Apply a trained job's checkpoints to the slides that may be scored, and write what was measured."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stainda.annotations import PixelGrid, bounds_of_file, rasterise, read_shapes, write_geojson
from stainda.arrays import Array
from stainda.cohort import Section
from stainda.config import EvaluationConfig, TaskConfig
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
from stainda.names import file_name
from stainda.patches.cutting import IGNORE_CLASSES
from stainda.patches.details import as_discs, middles, sigma_of
from stainda.prediction import Predictor, load_predictor
from stainda.prediction.regions import SlideRegion, tissue_pixels
from stainda.run_directory.result_tables import CONFUSION, JOB_AGREEMENT, OBJECTS, PROBABILITIES, RECORDS
from stainda.slides import open_slide
from stainda.strategies.detector import CHECKPOINTS
from stainda.study.block_agreement import agree_in_blocks
from stainda.study.job_request import JobRequest

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

    from stainda.prediction.probability_map import ProbabilityMap


def score_job(folder: Path, request: JobRequest) -> None:
    """Score the job's checkpoints on the slides of the request.

    Writes ``records.parquet`` and, of the best checkpoint, ``objects.parquet``, ``probabilities.parquet``,
    ``confusion.parquet`` (of several classes) and ``predictions/``; of a strategy that compares the sections of a
    block, what happened to each.
    """
    checkpoints = ["best"] if request.job.repeats else list(CHECKPOINTS)
    predictors = {checkpoint: load_predictor(folder, checkpoint=checkpoint) for checkpoint in checkpoints}
    agreed = _agreed_objects(folder, request, predictors)
    task, tables, evidence = request.job.task, [], _Evidence(request.job.task, request.evaluation)
    for section in request.scored:
        shapes = read_shapes(request.folder.own / f"{file_name(section.slide)}.geojson")
        where = _where(folder, request, section)
        truth = None
        for checkpoint, predictor in predictors.items():
            region, mpp = region_of(predictor, section)
            probabilities = predictor.probabilities_region(region, where["domain"], section.slide, mpp)
            if truth is None:
                truth = _Truth.on(probabilities, shapes, region, task, section.slide)
            of_block = agreed[checkpoint]
            objects = predictor.objects(probabilities) if of_block is None else of_block[section.slide]
            applied = _Applied(predictor, probabilities, objects)
            tables.append(_records(applied, truth, request, {**where, "checkpoint": checkpoint}))
            if checkpoint == "best":
                path = folder / "predictions" / f"{file_name(section.slide)}.geojson"
                write_geojson(objects, path, bounds=bounds_of_file(section.path))
                evidence.add(applied, truth, region, {**where, "checkpoint": checkpoint})
    evidence.write(folder)
    write_records(gather_records(tables), RECORDS.inside(folder))


def _agreed_objects(
    folder: Path, request: JobRequest, predictors: Mapping[str, Predictor]
) -> dict[str, dict[str, gpd.GeoDataFrame] | None]:
    """Objects by checkpoint and slide after comparison within the blocks; ``None`` where the strategy compares none."""
    agreements = {
        checkpoint: agree_in_blocks(predictor, request.scored, request.folder.registration, region_of)
        for checkpoint, predictor in predictors.items()
    }
    rows = [
        {"checkpoint": checkpoint, **row}
        for checkpoint, agreement in agreements.items()
        if agreement is not None
        for row in agreement.rows
    ]
    if rows:
        JOB_AGREEMENT.write(folder, rows)
    return {
        checkpoint: None if agreement is None else agreement.objects for checkpoint, agreement in agreements.items()
    }


def _where(folder: Path, request: JobRequest, section: Section) -> dict[str, Any]:
    """What every record of this section says of its job and slide, but for the checkpoint."""
    return {
        "study": request.job.study,
        "strategy": request.job.strategy.name,
        "trial": 0,  # which trials a job serves is in trials.csv; it may be more than one
        "seed": request.job.seed,
        "job": folder.name,
        "stain": section.stain,
        "centre": section.centre,
        "domain": request.scored.domain(section),
        "patient": section.patient,
        "slide": section.slide,
        "split": "val" if section.split == "val" else "test",
    }


@dataclass(frozen=True)
class _Truth:
    """A slide's own annotations on the pixels of a prediction.

    Attributes:
        shapes, ignored: level-0 pixels; of a task of points the middles of what was annotated.
        labels: uint8 (h, w), 255 ignored.
        tissue: bool (h, w).
    """

    shapes: gpd.GeoDataFrame
    ignored: gpd.GeoDataFrame
    labels: Array
    tissue: Array

    @classmethod
    def on(
        cls, probabilities: ProbabilityMap, shapes: gpd.GeoDataFrame, region: SlideRegion, task: TaskConfig, name: str
    ) -> _Truth:
        """Of the slide of this name; ``region`` is what the probabilities were predicted from."""
        ignored = shapes[shapes["class"].isin(IGNORE_CLASSES)]
        painted = shapes
        if task.kind == "points":
            painted = as_discs(shapes, sigma_of(task, probabilities.mpp, name))
            shapes = middles(shapes)
        height, width = probabilities.array.shape[1:]
        grid = PixelGrid(probabilities.x, probabilities.y, width, height, probabilities.downsample)
        labels = rasterise(painted, task.classes, grid, ignored)
        return cls(shapes, ignored, labels, resized(tissue_pixels(region), height, width))


@dataclass(frozen=True)
class _Applied:
    """What one checkpoint says of a slide."""

    predictor: Predictor
    probabilities: ProbabilityMap
    objects: gpd.GeoDataFrame

    def point_px(self, evaluation: EvaluationConfig) -> float | None:
        """How far a point may lie from the annotated one, in level-0 pixels."""
        mpp = self.probabilities.mpp
        return None if mpp is None else evaluation.point_um / mpp


def _records(applied: _Applied, truth: _Truth, request: JobRequest, where: Mapping[str, Any]) -> pd.DataFrame:
    """The scores of one slide by one checkpoint."""
    task, probabilities = request.job.task, applied.probabilities
    scores = score_slide(
        probabilities.array,
        truth.labels,
        task.classes,
        applied.objects,
        truth.shapes,
        iou=request.evaluation.overlap(task.kind),
        threshold=applied.predictor.threshold,
        ignored=truth.ignored,
        um_per_px=None if probabilities.mpp is None else probabilities.mpp * probabilities.downsample,
        tissue=truth.tissue,
        point_px=applied.point_px(request.evaluation),
        instances=task.kind == "instances" or task.split_touching,
        points=task.kind == "points",
    )
    return make_records(scores, **where)


@dataclass
class _Evidence:
    """What the page shows beyond scores, gathered over the slides of one checkpoint."""

    task: TaskConfig
    evaluation: EvaluationConfig
    objects: list[dict[str, Any]] = field(default_factory=list)
    probabilities: list[dict[str, Any]] = field(default_factory=list)
    confusions: list[dict[str, Any]] = field(default_factory=list)

    def add(self, applied: _Applied, truth: _Truth, region: SlideRegion, where: Mapping[str, Any]) -> None:
        classes, array, mpp = self.task.classes, applied.probabilities.array, applied.probabilities.mpp
        threshold, point_px = applied.predictor.threshold, applied.point_px(self.evaluation)
        self.objects += object_rows(
            truth.shapes,
            applied.objects,
            classes,
            mpp,
            None if mpp is None else region.tissue_area * mpp**2,
            where,
            ignored=truth.ignored,
            candidates=applied.predictor.candidates(applied.probabilities, applied.objects),
            point_px=point_px,
        )
        self.probabilities += probability_rows(array, truth.labels, classes, where, truth.tissue, threshold)
        if len(classes) > 1:
            of_pixels = slide_confusion(array, truth.labels, classes, threshold=threshold, tissue=truth.tissue)
            of_objects = object_confusion(
                applied.objects,
                truth.shapes,
                classes,
                self.evaluation.overlap(self.task.kind),
                ignored=truth.ignored,
                point_px=point_px,
            )
            self.confusions += confusion_rows({"pixels": of_pixels, "objects": of_objects}, classes, where)

    def write(self, folder: Path) -> None:
        write_evidence(self.objects, OBJECT_COLUMNS, OBJECTS.inside(folder))
        columns = (*PROBABILITY_COLUMNS, *THRESHOLD_COLUMNS)
        write_evidence(self.probabilities, columns, PROBABILITIES.inside(folder))
        if len(self.task.classes) > 1:
            write_evidence(self.confusions, CONFUSION_COLUMNS, CONFUSION.inside(folder))


def resized(mask: Array, height: int, width: int) -> Array:
    """A mask at another number of pixels, each that of the nearest: a map of cells is coarser than its region."""
    rows = np.minimum((np.arange(height) + 0.5) * mask.shape[0] / height, mask.shape[0] - 1).astype(int)
    columns = np.minimum((np.arange(width) + 0.5) * mask.shape[1] / width, mask.shape[1] - 1).astype(int)
    return mask[rows[:, None], columns]


_KEPT_PIXELS = 256 * 2**20
"""Pixels at the working scale that a worker keeps of the slides it scores, so that its next job need not read them."""

_regions: OrderedDict[tuple[str, int, float | None, str], tuple[SlideRegion, float | None]] = OrderedDict()


def region_of(predictor: Predictor, section: Section) -> tuple[SlideRegion, float | None]:
    """The section at the working scale and its mpp, read once per worker as long as there is room."""
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
