"""Class by class, where a task has several: the scores of each, and which classes are mistaken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stainda.evaluation.agreement import bland_altman, concordance_interval
from stainda.evaluation.class_shares import class_shares
from stainda.evaluation.confusion import BACKGROUND, confusion_table
from stainda.evaluation.selection import DEFAULT_RULE
from stainda.names import file_name
from stainda.randomness import generator_for
from stainda.report.figure_registry import Plot, register, register_score_table
from stainda.report.figures import INK, STYLE, Look, panels
from stainda.report.registered_evidence import evidence_rows
from stainda.report.result_tables import regions, score_cell, strategy_cell
from stainda.report.run import LoadedRun
from stainda.report.study_view import StudyView, not_drawn, people
from stainda.report.summary_text import PRIMARY, hit_words, measure_title, percent
from stainda.report.tables import Cell, PageTable, ends, plain_table, span, spread_words

MOST_STRATEGIES, PANELS_ACROSS = 4, 2
ROLES = ("source", "target")
MEASURES_OF_CLASSES = (PRIMARY, "object_f1")


def has_classes(run: LoadedRun) -> bool:
    """Whether the task of the study has several classes."""
    return len(run.study.task.classes) > 1


def class_tables(view: StudyView, name: str) -> list[PageTable]:
    """Mean and interval of one class by strategy and domain (or rotation): of Dice and object F1 what was scored."""
    tables = (_class_table(view, name, measure) for measure in MEASURES_OF_CLASSES)
    return [table for table in tables if table is not None]


def _class_table(view: StudyView, name: str, measure: str) -> PageTable | None:
    results = view.analysis.results
    rows = results[
        (results["measure"] == measure) & (results["selection"] == DEFAULT_RULE) & (results["class"] == name)
    ]
    if rows.empty or not np.isfinite(rows["mean"]).any():
        return None
    places = regions(rows)
    cells = rows.set_index(["strategy", "domain"])
    shown: list[list[Cell]] = [
        [strategy_cell(view.run, strategy), *(score_cell(cells, (strategy, place)) for place in places)]
        for strategy in view.look.present(list(rows["strategy"]))
    ]
    counts = {place: int(rows.loc[rows["domain"] == place, "n_patients"].max()) for place in places}
    titles = ["Strategy", *[f"{place}\nn = {counts[place]}" for place in places]]
    spread = spread_words(rows["interval_kind"], percent(view.run.study.evaluation.level))
    caption = (
        f"{measure_title(measure)} of {name} by strategy and {view.noun}: mean over test patients that have a score, "
        f"n patients; below each mean: {spread}."
    )
    return PageTable(file_name(f"class_{name}_{measure}".replace(" ", "_")), caption, titles, shown, rows)


@register_score_table("class_shares")
def shares(view: StudyView, measure: str) -> PageTable | None:
    """How well the share of each class among all agrees with the annotated one, patient by patient."""
    if not has_classes(view.run) or view.run.confusion.empty:
        return None
    rows, study = [], view.run.study
    for role in ROLES:
        chosen = view.chosen(view.run.confusion, DEFAULT_RULE, role)
        if chosen.empty:
            continue
        table = class_shares(chosen, study.task.classes, ["strategy", "seed", "patient"])
        for name in view.look.present(list(table["strategy"])):
            mine = table[table["strategy"] == name]
            for (unit, of_class), some in mine.groupby(["unit", "class"], sort=False):
                pairs = some.groupby("patient")[["predicted", "annotated"]].mean().dropna()
                predicted, annotated = pairs["predicted"].to_numpy(), pairs["annotated"].to_numpy()
                agreement = bland_altman(predicted, annotated)
                generator = generator_for(study.seed, "concordance", name, role, unit, of_class)
                low, high, kind = concordance_interval(
                    predicted, annotated, generator, study.evaluation.resamples, study.evaluation.level
                )
                rows.append(
                    {"strategy": name, "title": view.look.title(name), "role": role, "class": of_class,
                     "unit": "number of objects" if unit == "objects" else "area", "n_patients": agreement.n,
                     "annotated": pairs["annotated"].mean(), "predicted": pairs["predicted"].mean(),
                     "bias": agreement.bias, "bias_low": agreement.bias_interval[0],
                     "bias_high": agreement.bias_interval[1], "lower": agreement.lower, "upper": agreement.upper,
                     "concordance": agreement.concordance, "concordance_low": low, "concordance_high": high,
                     "interval_kind": kind}
                )  # fmt: skip
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    frame["limits"] = [span(row["lower"], row["upper"]) for row in rows]
    names = {"concordance_low": "low", "concordance_high": "high"}
    frame["known"] = [ends(row) for _, row in frame.rename(columns=names).iterrows()]
    titles = {
        "title": "Strategy", "role": "On", "class": "Class", "unit": "By", "n_patients": "Patients",
        "annotated": "Annotated", "predicted": "Predicted", "bias": "Mean difference", "limits": "Limits of agreement",
        "concordance": "Concordance", "known": "Its interval",
    }  # fmt: skip
    digits = {"n_patients": 0, "annotated": 2, "predicted": 2, "bias": 2, "concordance": 2}
    note = (
        "Share of the class among all classes of the task, per patient, trainings averaged; patients of whom nothing "
        "was found are left out. Limits of agreement: mean "
        "difference ± 1.96 SD of patients, from three patients on. Concordance: Lin's coefficient."
    )
    shown = plain_table("class_shares", "Share of each class, predicted and annotated.", frame, titles, digits, note)
    return replace(shown, frame=frame)


@register("confusion_objects", of_measure=False, rotations="one", needs=has_classes)
def confusion_objects(view: StudyView, measure: str, selection: str) -> Plot:
    study = view.run.study
    hit = hit_words(study, study.evaluation.overlap(study.task.kind))
    return _confusion(
        view, selection, "objects",
        "Objects by annotated class (rows) and predicted class (columns), matched one to one with "
        f"{hit}, whatever their classes. Last column: missed; last row: false, counts alone.",
    )  # fmt: skip


@register("confusion_pixels", of_measure=False, rotations="one", needs=has_classes)
def confusion_pixels(view: StudyView, measure: str, selection: str) -> Plot:
    return _confusion(
        view, selection, "pixels",
        "Pixels of tissue by annotated class (rows) and predicted class (columns).",
    )  # fmt: skip


def _confusion(view: StudyView, selection: str, unit: str, words: str) -> Plot:
    targets = evidence_rows(view, "confusion", selection)
    sources = view.chosen(view.run.confusion, selection, "source")
    rows = pd.concat([sources.assign(role="source"), targets.assign(role="target")], ignore_index=True)
    rows = rows[rows["unit"] == unit]
    names = [*view.run.study.task.classes, BACKGROUND]
    kept = view.few(list(rows["strategy"]), MOST_STRATEGIES)
    frame = pd.DataFrame(_frame_rows(rows, view.look, names))
    return Plot(
        draw_confusion(frame[frame["strategy"].isin(kept)], view.look, names),
        frame,
        f"{words} The numbers are shares of the row, below them counts; all test slides and trainings together "
        f"({people(rows['patient'].nunique())}); no intervals.{not_drawn(rows['strategy'], kept)}",
        f"Confusion matrices of {unit} for {len(kept)} strategies, on source and on targets; numbers in the CSV.",
    )


def _frame_rows(rows: pd.DataFrame, look: Look, names: Sequence[str]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for name in look.present(list(rows["strategy"])):
        for role in ROLES:
            mine = rows[(rows["strategy"] == name) & (rows["role"] == role)]
            table = confusion_table(mine, names)
            shares = row_shares(table)
            if (mine["unit"] == "objects").all():
                shares[-1] = np.nan  # of what is not annotated, only what was found has a number
            result += [
                {"strategy": name, "role": role, "annotated": names[y], "predicted": names[x],
                 "count": int(table[y, x]), "share": shares[y, x]}
                for y, x in np.ndindex(table.shape)
            ]  # fmt: skip
    return result


def row_shares(table: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Of each row, float ``(n, n)``; ``nan`` in rows without anything."""
    sums = table.sum(1, keepdims=True)
    return np.divide(table, sums, out=np.full(table.shape, np.nan), where=sums > 0)


def draw_confusion(frame: pd.DataFrame, look: Look, names: Sequence[str]) -> Figure:
    """Two matrices per strategy, on source and on target domains: share of the row in colour, counts below it.

    Args:
        frame: columns ``strategy``, ``role``, ``annotated``, ``predicted``, ``count``, ``share``.
        names: the classes, then the background.
    """
    with mpl.rc_context(STYLE):
        shown = [(name, role) for name in look.present(list(frame["strategy"])) for role in ROLES]
        titles = [f"{look.title(name)}, on {role}{'s' if role == 'target' else ''}" for name, role in shown]
        figure, axes = panels(
            len(shown), PANELS_ACROSS, 30, 14 + 9 * len(names), titles=titles, row_labels=names
        )  # fmt: skip
        for place, (name, role) in zip(axes.flat, shown, strict=False):
            _draw_matrix(place, frame[(frame["strategy"] == name) & (frame["role"] == role)], names)
        figure.supxlabel(f"predicted ({BACKGROUND}: missed)", fontsize=8)
        figure.supylabel(f"annotated ({BACKGROUND}: false)", fontsize=8)
        return figure


def _draw_matrix(place: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    cells = rows.set_index(["annotated", "predicted"])
    counts, shares = (cells[column].unstack().reindex(names, columns=names).to_numpy() for column in ("count", "share"))
    place.imshow(np.ma.masked_invalid(shares), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (y, x), share in np.ndenumerate(shares):
        number = _short(int(counts[y, x]))
        words = f"{share:.2f}\n{number}" if np.isfinite(share) else number if counts[y, x] else "–"
        tone = INK if not np.isfinite(share) else "#ffffff" if share < 0.55 else "#000000"
        place.text(x, y, words, ha="center", va="center", fontsize=7, color=tone)
    places = range(len(names))
    place.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor")
    place.set_yticks(places, names)
    place.tick_params(length=0)
    place.spines[:].set_visible(False)


def _short(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f") if count < 100_000 else f"{count / 1e6:.2g}M"
