"""Figures of objects and pixels on the target test slides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from stainda.evaluation import (
    Agreement,
    Ranked,
    bland_altman,
    counts_and_areas,
    percentile_interval,
    probability_counts,
    ranked_at,
    resampling_weights,
)  # fmt: skip
from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.curves import CALIBRATION_BINS
from stainda.evaluation.dataset_precision import dataset_precision
from stainda.evaluation.detection import FROC_RATES, froc
from stainda.evaluation.evidence import CANDIDATE, SLIDE
from stainda.randomness import generator_for
from stainda.report import evidence_figures
from stainda.report.evidence_figures import Reliability
from stainda.report.figure_registry import Plot, register
from stainda.report.study_view import NotDrawable, StudyView, not_drawn, people
from stainda.report.summary_text import hit_words

MOST_PANELS = 12
AREAS = {"counts": ("found", "there", "objects"), "areas": ("found_area_um2", "true_area_um2", "µm²")}


@register("reliability", of_measure=False, rotations="one")
def reliability(view: StudyView, measure: str, selection: str) -> Plot:
    rows = evidence_rows(view, "probabilities", selection)
    curves, frames = {}, []
    for name in view.few(list(rows["strategy"]), MOST_PANELS):
        curves[name] = _reliability(view, rows[rows["strategy"] == name])
        curve = curves[name]
        frames.append(
            pd.DataFrame(
                {"strategy": name, "bin": range(CALIBRATION_BINS), "probability": curve.probability,
                 "share": curve.share, "low": curve.low, "high": curve.high, "calibration_error": curve.error}
            )
        )  # fmt: skip
    band = (
        f"Bands: {view.level} patient-bootstrap percentile intervals, for these trainings only."
        if rows["patient"].nunique() >= FEW_PATIENTS
        else f"Fewer than {FEW_PATIENTS} patients: no intervals."
    )
    return Plot(
        evidence_figures.reliability(curves, view.look),
        pd.concat(frames, ignore_index=True),
        "Share of pixels that are of the class, by predicted probability, pixels of all target test slides and seeds "
        f"together ({_about(rows)}; classes pooled); on the dashed line probabilities mean what they say. {band} ECE: "
        f"expected calibration error of the pooled pixels.{not_drawn(rows['strategy'], curves)}",
        f"Reliability diagrams of {len(curves)} strategies; numbers in the CSV.",
    )


def _reliability(view: StudyView, rows: pd.DataFrame) -> Reliability:
    counts = probability_counts(rows)
    probability, share, _ = counts.reliability()
    low = high = np.full(CALIBRATION_BINS, np.nan)
    sums = rows.groupby(["patient", "bin"])[["positive", "negative"]].sum().unstack("bin", fill_value=0)
    if len(sums) >= FEW_PATIENTS:
        columns = [sums[name].reindex(columns=range(CALIBRATION_BINS), fill_value=0) for name in sums.columns.levels[0]]
        both = {str(name): column.to_numpy(float) for name, column in zip(sums.columns.levels[0], columns, strict=True)}
        settings = view.run.study.evaluation
        generator = generator_for(view.run.study.seed, "reliability")
        weights = resampling_weights(len(sums), settings.resamples, generator)
        hits, rest = weights @ both["positive"], weights @ both["negative"]
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.where(hits + rest > 0, hits / (hits + rest), np.nan)
        low, high = percentile_interval(shares, settings.level)
    return Reliability(probability, share, low, high, counts.calibration_error)


@register("precision_recall", of_measure=False, rotations="one")
def precision_recall(view: StudyView, measure: str, selection: str) -> Plot:
    rows = evidence_rows(view, "objects", selection)
    curves = _ranked(view, rows)
    frame = pd.concat(
        [
            pd.DataFrame({"strategy": name, "score": curve.score, "hit": curve.hit, "n_annotated": curve.n_truth})
            for name, curve in curves.items()
        ],
        ignore_index=True,
    )
    return Plot(
        evidence_figures.precision_recall(curves, view.look),
        frame,
        f"Precision and recall of objects (hit with {hit_words(view.run.study)}) as the score they need falls from "
        f"high to low, all target test slides and seeds together ({_about(rows)}); no intervals: those of "
        f"object F1 are in the table. Dashed: the baseline.{not_drawn(rows['strategy'], curves)}",
        f"Precision-recall curves of objects of {len(curves)} strategies; numbers in the CSV.",
    )


@register("froc", of_measure=False, rotations="one")
def free_response(view: StudyView, measure: str, selection: str) -> Plot:
    rows = evidence_rows(view, "objects", selection)
    curves = _ranked(view, rows)
    areas = {name: _tissue_mm2(rows[rows["strategy"] == name]) for name in curves}
    counted = {name: (curve, areas[name]) for name, curve in curves.items() if areas[name] > 0}
    if not counted:
        raise NotDrawable("the area of tissue is not known: slides lack micrometres per pixel")
    beyond = ""
    if any(evidence_figures.froc_steps(*of_strategy)[0][-1] > FROC_RATES[-1] * 1.1 for of_strategy in counted.values()):
        beyond = " Arrowheads: the curve goes on beyond the axis, to the sensitivity and rate next to them."
    return Plot(
        evidence_figures.free_response(counted, view.look, FROC_RATES),
        detection_table(view, selection),
        "Sensitivity against false detections per mm² of tissue (FROC), objects hit with "
        f"{hit_words(view.run.study)}, all target test slides and seeds together ({_about(rows)}); "
        f"marks at {', '.join(f'{rate:g}' for rate in FROC_RATES)} per "
        f"mm²; no intervals. Dashed: the baseline.{beyond}{not_drawn(rows['strategy'], counted)}",
        f"FROC curves of {len(curves)} strategies; numbers in the CSV.",
    )  # fmt: skip


@register("counts", of_measure=False, rotations="one")
def counts(view: StudyView, measure: str, selection: str) -> Plot:
    return _bland_altman(view, selection, "counts", "Objects found and annotated per patient")


@register("areas", of_measure=False, rotations="one")
def areas(view: StudyView, measure: str, selection: str) -> Plot:
    return _bland_altman(view, selection, "areas", "Mean area of the objects found and annotated per patient")


def _bland_altman(view: StudyView, selection: str, what: str, title: str) -> Plot:
    rows = evidence_rows(view, "objects", selection)
    pairs, agreements = patient_pairs(view, rows, what)
    if not any(len(pair.dropna()) for pair in pairs.values()):
        raise NotDrawable("no patient has both a found and an annotated value" + (
            " (areas need micrometres per pixel)" if what == "areas" else ""
        ))  # fmt: skip
    n = max(agreement.n for agreement in agreements.values())
    limits = (
        "shaded: limits of agreement (bias ± 1.96 SD)" if n > 2 else "limits of agreement need at least three patients"
    )
    frame = pd.concat([pair.assign(strategy=name) for name, pair in pairs.items()]).reset_index()
    return Plot(
        evidence_figures.bland_altman_panels(pairs, agreements, view.look, AREAS[what][2]),
        frame,
        f"{title}, over the target test slides, seeds averaged; a mark per patient, {people(n)}. Blue: mean "
        "difference; "
        f"{limits}; intervals of both are in the table."
        + (" Every panel has a scale of its own." if evidence_figures.own_scales(pairs) else "")
        + not_drawn(rows["strategy"], pairs),
        f"Bland-Altman plots of {what} for {len(pairs)} strategies; numbers in the table.",
    )


def patient_pairs(
    view: StudyView, rows: pd.DataFrame, what: str, most: int = MOST_PANELS
) -> tuple[dict[str, pd.DataFrame], dict[str, Agreement]]:
    """Per strategy, what was found and annotated in each patient (seeds averaged), and how the two agree."""
    table = counts_and_areas(rows, ["strategy", "seed", "patient"])
    predicted, annotated, _ = AREAS[what]
    pairs: dict[str, pd.DataFrame] = {}
    agreements: dict[str, Agreement] = {}
    for name in view.few(list(table["strategy"]), most):
        mine = table[table["strategy"] == name].groupby("patient")[[predicted, annotated]].mean()
        pairs[name] = mine.set_axis(["found", "there"], axis=1)
        agreements[name] = bland_altman(pairs[name]["found"].to_numpy(), pairs[name]["there"].to_numpy())
    return pairs, agreements


def detection_table(view: StudyView, selection: str) -> pd.DataFrame:
    """Average precision and FROC sensitivities of each strategy, all target test slides together."""
    rows = evidence_rows(view, "objects", selection)
    _ranked(view, rows)
    table: list[dict[str, Any]] = []
    for name in view.look.present(list(rows["strategy"])):
        mine = rows[rows["strategy"] == name]
        result = ranked_at(mine)
        area = _tissue_mm2(mine)
        values = froc(result, area)
        table.append(
            {
                "strategy": name, "annotated": result.n_truth, "detections": len(result.score), "tissue_mm2": area,
                **_precisions(view, mine),
                **{f"froc_{rate:g}": value for rate, value in zip(FROC_RATES, values, strict=True)},
            }
        )  # fmt: skip
    return pd.DataFrame(table)


def _precisions(view: StudyView, rows: pd.DataFrame) -> dict[str, Any]:
    """Average precision over all classes and slides, with what it may vary by."""
    rows = rows.assign(patient=rows["patient"].astype(str))
    result = {name: dataset_precision(rows, name, view.run.study.evaluation) for name in ("ap50", "ap75")}
    return {
        **{name: curve.mean for name, curve in result.items()},
        "ap50_low": result["ap50"].low, "ap50_high": result["ap50"].high, "interval_kind": result["ap50"].kind,
    }  # fmt: skip


def _tissue_mm2(rows: pd.DataFrame) -> float:
    """Tissue of the slides, once per training; ``nan`` where a slide's is not known."""
    slides = rows[rows["kind"] == SLIDE].drop_duplicates(["seed", "slide"])
    return float(slides["area_um2"].sum(skipna=False)) / 1e6


def _ranked(view: StudyView, rows: pd.DataFrame) -> dict[str, Ranked]:
    if not rows["kind"].eq(CANDIDATE).any():
        raise NotDrawable(
            "objects.parquet holds no candidates below the threshold of use, as of an earlier version: run the study "
            "again, its trainings are only scored"
        )
    result = {name: ranked_at(rows[rows["strategy"] == name]) for name in view.few(list(rows["strategy"]), MOST_PANELS)}
    if not any(len(curve.score) and np.isfinite(curve.score).any() for curve in result.values()):
        raise NotDrawable("no detection has a score")
    return result


def evidence_rows(view: StudyView, what: str, selection: str) -> pd.DataFrame:
    """Rows of ``objects``, ``probabilities`` or ``confusion`` on target test slides, of what a rule chose.

    Raises:
        NotDrawable: there are none.
    """
    table: pd.DataFrame = getattr(view.run, what)
    if table.empty:
        raise NotDrawable(view.run.missing.get(f"{what}.parquet", f"{what}.parquet has no rows"))
    rows = view.chosen(table, selection)
    if rows.empty:
        raise NotDrawable(
            f"{what}.parquet holds the best checkpoints alone, and the rule {selection!r} chose none of them"
        )
    return rows


def _about(rows: pd.DataFrame) -> str:
    slides = rows["slide"].nunique()
    return f"{people(rows['patient'].nunique())}, {slides} slide{'s' * (slides != 1)}"
