"""What records cannot hold: one row per object, and pixels by probability; counts, areas and curves are made from them.

``objects.parquet`` and ``probabilities.parquet`` lie next to ``records.parquet``, with the same columns for strategy,
job, slide and so on, for the best checkpoint alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from stainda.errors import RecordError
from stainda.evaluation.curves import CALIBRATION_BINS, ProbabilityCounts
from stainda.evaluation.detection import COCO_THRESHOLDS, Ranked, ranked_candidates
from stainda.evaluation.metrics import scored_pixels
from stainda.files import whole_file
from stainda.objects.matching import match_objects
from stainda.objects.overlap import polygons
from stainda.run_directory.result_tables import OBJECTS, PROBABILITIES

if TYPE_CHECKING:
    import geopandas as gpd


SLIDE_COLUMNS = OBJECTS.names[: OBJECTS.names.index("class")]
OBJECT_COLUMNS = OBJECTS.names
PROBABILITY_COLUMNS = PROBABILITIES.needed
THRESHOLD_COLUMNS = PROBABILITIES.without(*PROBABILITIES.needed)
"""More columns of probabilities.parquet: the threshold in use, and the pixels that the Dice of any threshold is made of
(those scored, glass too), by truth. A pixel is in bin 0 of a class where another one that reaches its own threshold is
more probable: no threshold of the class itself would have it called there."""

SLIDE, HIT, FALSE, MISSED, CANDIDATE = "slide", "hit", "false", "missed", "candidate"
"""Kinds of rows: one ``slide`` row per slide and class, whose ``area_um2`` is its tissue, also where nothing is; then
its objects at the threshold of use; then all candidates down to a low score, which the ranking is made of, with the IoU
of the object each claims at 0.5 and ``hits`` (see ``detection.Candidates``). Objects left out of scoring have no
row."""


def object_rows(
    truth: gpd.GeoDataFrame,
    predicted: gpd.GeoDataFrame,
    classes: Sequence[str],
    um_per_px: float | None,
    tissue_um2: float | None,
    where: Mapping[str, Any],
    *,
    ignored: gpd.GeoDataFrame | None = None,
    candidates: gpd.GeoDataFrame | None = None,
    point_px: float | None = None,
) -> list[dict[str, Any]]:
    """The fate of every object of a slide at IoU 0.5.

    Args:
        truth, predicted: shapes, level-0 pixels.
        um_per_px: micrometres per level-0 pixel; areas are ``nan`` without it.
        tissue_um2: area of tissue.
        where: values of :data:`SLIDE_COLUMNS`.
        candidates: shapes with a column ``score``, also those below the threshold of use; ``predicted`` without.
        point_px: see :func:`~stainda.objects.matching.match_objects`.
    """
    unit = float("nan") if um_per_px is None else um_per_px**2
    rows: list[dict[str, Any]] = []
    for name in classes:
        annotated, detected = truth[truth["class"] == name], predicted[predicted["class"] == name]
        matching = match_objects(annotated, detected, 0.5, ignored=ignored, point_px=point_px)
        areas, found_areas = shapely.area(polygons(annotated)) * unit, shapely.area(polygons(detected)) * unit
        scores = detected["score"].to_numpy(float) if "score" in detected.columns else np.full(len(detected), np.nan)
        base = {**where, "class": name, "score": np.nan, "iou": np.nan, "area_um2": np.nan, "true_area_um2": np.nan,
                "hits": np.nan}  # fmt: skip
        rows.append({**base, "kind": SLIDE, "area_um2": np.nan if tissue_um2 is None else tissue_um2})
        for index, hit in enumerate(matching.truth):
            if hit >= 0:
                found_one = {"score": scores[hit], "iou": matching.iou[index], "area_um2": found_areas[hit]}
                rows.append({**base, "kind": HIT, **found_one, "true_area_um2": areas[index]})
            elif hit == -1:
                rows.append({**base, "kind": MISSED, "true_area_um2": areas[index]})
        for index in np.flatnonzero(matching.predicted == -1):
            rows.append({**base, "kind": FALSE, "score": scores[index], "area_um2": found_areas[index]})
        every = predicted if candidates is None else candidates
        every = every[every["class"] == name]
        if "score" in every.columns:
            ranked = ranked_candidates(annotated, every, ignored, point_px)
            rows += [
                {**base, "kind": CANDIDATE, "score": score, "iou": iou, "hits": float(hits)}
                for score, iou, hits in zip(ranked.score, ranked.iou, ranked.hits, strict=True)
            ]
    return rows


def probability_rows(
    probabilities: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    classes: Sequence[str],
    where: Mapping[str, Any],
    tissue: npt.NDArray[np.bool_] | None = None,
    threshold: npt.ArrayLike = 0.5,
) -> list[dict[str, Any]]:
    """Pixels of a slide in ``CALIBRATION_BINS`` bins of probability, empty ones left out.

    Args:
        probabilities: float (n_classes, h, w).
        truth: labels uint8 (h, w), 255 ignored.
        tissue: bool (h, w); glass is left out: a network is right about it without having learned anything.
        threshold: in use, one or one per class.
    """
    used, scored = scored_pixels(truth, tissue), scored_pixels(truth)
    limits = np.broadcast_to(np.asarray(threshold, float), (len(classes),))
    here = np.asarray(probabilities)[:, scored]
    kept = np.where(here >= limits[:, None], here, -1.0)
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(classes):
        counts = ProbabilityCounts.of(probabilities[index][used], truth[used] == index + 1, CALIBRATION_BINS)
        before, after = (part.max(axis=0, initial=-1.0) for part in (kept[:index], kept[index + 1 :]))
        callable_here = np.where((here[index] > before) & (here[index] >= after), here[index], 0.0)
        scores = ProbabilityCounts.of(callable_here, truth[scored] == index + 1, CALIBRATION_BINS)
        for place in np.flatnonzero(counts.positive + counts.negative + scores.positive + scores.negative):
            rows.append(
                {
                    **where,
                    "class": name,
                    "bin": int(place),
                    "positive": int(counts.positive[place]),
                    "negative": int(counts.negative[place]),
                    "total": float(counts.total[place]),
                    "threshold": float(limits[index]),
                    "own": int(scores.positive[place]),
                    "other": int(scores.negative[place]),
                }
            )
    return rows


def probability_counts(rows: pd.DataFrame) -> ProbabilityCounts:
    """The rows of any number of slides added up."""
    sums = rows.groupby("bin")[["positive", "negative", "total"]].sum().reindex(range(CALIBRATION_BINS), fill_value=0)
    return ProbabilityCounts(
        sums["positive"].to_numpy(np.int64), sums["negative"].to_numpy(np.int64), sums["total"].to_numpy(float)
    )


def ranked_at(rows: pd.DataFrame, iou: float = 0.5) -> Ranked:
    """Candidates of any number of slides in one ranking by score, as COCO's over a data set; hits from an IoU on.

    Args:
        iou: one of :data:`~stainda.evaluation.detection.COCO_THRESHOLDS`.

    Raises:
        RecordError: another IoU; or the table holds objects and no candidates, as those of earlier versions.
    """
    if iou not in COCO_THRESHOLDS:
        raise RecordError(
            f"the table of objects holds no hits at IoU {iou:g}",
            remedy=f"Known: {', '.join(f'{threshold:g}' for threshold in COCO_THRESHOLDS)}",
        )
    if rows["kind"].isin([HIT, FALSE]).any() and not rows["kind"].eq(CANDIDATE).any():
        raise RecordError(
            "the table of objects holds no candidates below the threshold of use",
            remedy="'stainda run' on the same run directory scores its trainings again",
        )
    detections = rows[rows["kind"] == CANDIDATE].sort_values("score", ascending=False, kind="stable")
    hit = (detections["hits"].fillna(0).to_numpy(np.int64) >> COCO_THRESHOLDS.index(iou)) % 2 == 1
    return Ranked(detections["score"].to_numpy(float), hit, int(rows["kind"].isin([HIT, MISSED]).sum()))


def counts_and_areas(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Objects found and annotated, and their mean areas, per group of slides; groups without any object too.

    Returns:
        ``by``, ``found``, ``there``, ``found_area_um2``, ``true_area_um2`` (means).
    """
    keys = [*by]
    kinds = rows["kind"]
    detected, annotated = rows[kinds.isin([HIT, FALSE])].groupby(keys), rows[kinds.isin([HIT, MISSED])].groupby(keys)
    table = pd.DataFrame(index=rows[kinds == SLIDE].groupby(keys).size().index)
    table["found"] = detected.size().reindex(table.index, fill_value=0)
    table["there"] = annotated.size().reindex(table.index, fill_value=0)
    table["found_area_um2"] = detected["area_um2"].mean().reindex(table.index)
    table["true_area_um2"] = annotated["true_area_um2"].mean().reindex(table.index)
    return table.reset_index()


def write_evidence(rows: Sequence[Mapping[str, Any]] | pd.DataFrame, columns: Sequence[str], path: str | Path) -> Path:
    """Write one of the two tables as Parquet, whole or not at all."""
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=list(columns))
    with whole_file(path) as aside:
        table.reindex(columns=list(columns)).to_parquet(aside, index=False)
    return Path(path)


def read_evidence(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read one of the two tables.

    Raises:
        RecordError: it is not there, not Parquet, or lacks a column.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordError(
            "there is no such file", file=path, remedy="Run 'stainda run' again: it scores what is missing"
        )
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises many kinds; all mean the same to a person
        raise RecordError(f"not a readable Parquet file ({error})", file=path, remedy="Evaluate again") from error
    if "hits" in columns and "hits" not in table.columns:  # of an earlier version: its candidates cannot be ranked
        table = table[table["kind"] != CANDIDATE].assign(hits=np.nan)
    if missing := [name for name in columns if name not in table.columns]:
        raise RecordError(f"columns {', '.join(missing)} missing", file=path, remedy="Evaluate again")
    return table
