"""Tables of the statistics beyond means: sizes of effects, ranks, detections, counts and areas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from stainda.evaluation.selection import DEFAULT_RULE
from stainda.report.figure_registry import register_score_table
from stainda.report.registered_evidence import AREAS, detection_table, evidence_rows, patient_pairs
from stainda.report.registered_scores import worst_rows
from stainda.report.result_tables import strategy_cell
from stainda.report.study_view import NotDrawable, StudyView, measure_of
from stainda.report.summary_text import measure_title
from stainda.report.tables import (
    Cell,
    PageTable,
    decimal,
    ends,
    footnoted,
    number,
    plain_table,
    signed,
    span,
    spread_words,
    text,
)


@register_score_table("effects", "Sizes of effects")
def effects(view: StudyView, measure: str) -> PageTable | None:
    insights = view.insights(measure)
    frame = insights.effects
    if frame.empty:
        return None
    notes, meaning = footnoted(list(frame["note"]))
    ranks = dict(zip(insights.strategies, insights.ranking.ranks, strict=True))
    shown = [
        [
            strategy_cell(view.run, row["strategy"]),
            number(ranks.get(row["strategy"], np.nan), 2),
            Cell(_size(row["hedges_g"]), sort=row["hedges_g"], number=True),
            number(row["rank_biserial"], 2),
            Cell(_share(row["share_higher"]), sort=row["share_higher"], number=True),
            Cell(_share(row["p_worse"]), sort=row["p_worse"], number=True),
            Cell(_share(row["p_equal"]), sort=row["p_equal"], number=True),
            Cell(_share(row["p_better"]), sort=row["p_better"], number=True),
            Cell(_needed(row["patients_needed"]), sort=row["patients_needed"], number=True),
            number(row["n_patients"], 0),
            text(short, True),
        ]
        for row, short in zip(frame.to_dict("records"), notes, strict=True)
    ]
    columns = [
        "Strategy", "Mean rank", "Hedges' g", "Rank-biserial", "Patients better", "P(worse)", "P(equal)", "P(better)",
        "Patients needed", "Patients", "Note",
    ]  # fmt: skip
    rope = view.run.study.evaluation.rope
    note = (
        "Paired by patient, over all targets. Hedges' g: mean over standard deviation of the differences, corrected "
        "for "
        "small samples. Rank-biserial: (ranks of gains − of losses) / all ranks. P: posterior probability that the "
        f"strategy is worse, practically equal (within ±{rope:g}) or better (Bayesian t test, over patients and "
        "trainings). Patients needed: of a new study, for 80 % power in a paired t test, if the difference and spread "
        "were those seen here and trainings did not vary; a planning figure, no statement about this study."
        + f" {meaning}".rstrip()
    )
    caption = f"Sizes of effects in {measure_title(measure)} against {view.run.label(view.look.baseline)}."
    return PageTable(
        f"effects_{measure}", caption, columns, shown, frame.assign(mean_rank=frame["strategy"].map(ranks)), note
    )


@register_score_table("worst", "Worst domains")
def worst_domains(view: StudyView, measure: str) -> PageTable | None:
    """The worst target domain of each strategy, or pair of sources and target where rotations are compared."""
    what = "pair of sources and target" if view.by_rotation else "target domain"
    rows = worst_rows(view, measure, DEFAULT_RULE)
    rows = rows[rows["worst"]].set_index("strategy")
    means = view.overall(measure)["mean"]
    shown = [
        [
            strategy_cell(view.run, name),
            text(rows.loc[name, "domain"]),
            Cell(decimal(rows.loc[name, "mean"]), ends(rows.loc[name]),
                 float(rows.loc[name, "mean"]), True),
            number(means.get(name, np.nan)), number(rows.loc[name, "n_patients"], 0),
        ]
        for name in view.look.present(list(rows.index))
    ]  # fmt: skip
    title = measure_title(measure)
    columns = ["Strategy", f"Worst {what}", f"{title} there", "All targets", "Patients there"]
    order = "highest" if not measure_of(measure).higher_is_better else "lowest"
    caption = f"The {what} with the {order} mean {title} of each strategy."
    name = f"worst_{'pair' if view.run.rotates else 'domain'}_{measure}"
    return PageTable(name, caption, columns, shown, rows.reset_index())


@register_score_table("detections", "Detections", rotations="one")
def detections(view: StudyView, measure: str) -> PageTable | None:
    frame = detection_table(view, "source_validation")
    frame.insert(1, "title", [view.run.label(name) for name in frame["strategy"]])
    rates = [name for name in frame.columns if name.startswith("froc_")]
    study = view.run.study
    points = study.task.kind == "points"
    by = [f"within {study.evaluation.distance_um(overlap):g} µm" if points else f"at IoU {overlap:g}"
          for overlap in (0.5, 0.75)]  # fmt: skip
    titles = {
        "title": "Strategy", "annotated": "Annotated", "detections": "Detections", "ap50": f"AP {by[0]}",
        "ap50_low": "from", "ap50_high": "to",
        "ap75": f"AP {by[1]}", **{name: f"FROC {name[5:]}" for name in rates},
    }  # fmt: skip
    digits = {
        "annotated": 0,
        "detections": 0,
        "ap50": 3,
        "ap50_low": 3,
        "ap50_high": 3,
        "ap75": 3,
        **dict.fromkeys(rates, 2),
    }
    note = (
        "All target test slides and seeds together; FROC: sensitivity at so many false detections per mm² of tissue. "
        "All candidates down to a low score are ranked, those of a training together (COCO's average precision of a "
        f"data set); AP is the mean over trainings, from-to {spread_words(frame['interval_kind'], view.level)}. "
        "By domain: average_precision.csv."
    )
    return plain_table("detections", "Detections by their score.", frame, titles, digits, note)


@register_score_table("agreement_counts", "Counts", rotations="one")
def agreement_of_counts(view: StudyView, measure: str) -> PageTable | None:
    return agreement(view, "counts")


@register_score_table("agreement_areas", "Areas", rotations="one")
def agreement_of_areas(view: StudyView, measure: str) -> PageTable | None:
    return agreement(view, "areas")


def agreement(view: StudyView, what: str) -> PageTable | None:
    """Bland-Altman statistics of ``counts`` or ``areas`` per patient, every strategy."""
    rows = evidence_rows(view, "objects", "source_validation")
    _, agreements = patient_pairs(view, rows, what, most=len(view.look.order) + 1)
    unit, digits = AREAS[what][2], 1 if what == "counts" else 0
    if not any(comparison.n for comparison in agreements.values()):
        raise NotDrawable("areas need micrometres per pixel" if what == "areas" else "no patient has objects")
    frame: list[dict[str, Any]] = []
    shown = []
    for name, comparison in agreements.items():
        frame.append(
            {
                "strategy": name, "n_patients": comparison.n, "bias": comparison.bias,
                "bias_low": comparison.bias_interval[0],
                "bias_high": comparison.bias_interval[1], "lower_limit": comparison.lower,
                "lower_low": comparison.lower_interval[0],
                "lower_high": comparison.lower_interval[1], "upper_limit": comparison.upper,
                "upper_low": comparison.upper_interval[0],
                "upper_high": comparison.upper_interval[1], "concordance": comparison.concordance,
            }
        )  # fmt: skip
        cells = [text(view.run.label(name))]
        for value, limits in ((comparison.bias, comparison.bias_interval), (comparison.lower,
        comparison.lower_interval),
                            (comparison.upper, comparison.upper_interval)):  # fmt: skip
            cells.append(Cell(signed(value, digits), span(*limits, digits), value, True))
        shown.append([*cells, number(comparison.concordance, 3), number(comparison.n, 0)])
    columns = ["Strategy", f"Bias, {unit}", "Lower limit", "Upper limit", "Concordance", "Patients"]
    title = "Objects counted" if what == "counts" else "Mean area of objects"
    note = (
        "Found − annotated per patient; limits of agreement: bias ± 1.96 SD; below each its 95 % interval (Bland & "
        "Altman "
        "1999). Concordance: Lin's coefficient."
    )
    caption = f"{title} per patient against the annotations."
    return PageTable(f"agreement_{what}", caption, columns, shown, pd.DataFrame(frame), note)


def _size(value: float) -> str:
    return decimal(value) if np.isfinite(value) else "" if np.isnan(value) else "all alike"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if np.isfinite(value) else ""


def _needed(value: float) -> str:
    return "" if np.isnan(value) else "none would do" if np.isinf(value) else f"{value:.0f}"
