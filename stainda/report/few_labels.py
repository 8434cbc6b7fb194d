"""Score against the number of annotated objects for every start, and the trainings without labels behind the starts."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.figure_registry import Plot, register, register_score_table, register_table
from stainda.report.figures import STYLE, new_figure
from stainda.report.run import LoadedRun
from stainda.report.study_view import NotDrawable, StudyView, axis_limits, axis_title, sample
from stainda.report.summary_text import count, measure_title
from stainda.report.tables import Cell, PageTable, decimal, duration, ends, number, spread_words, text
from stainda.run_directory.training_tables import LABEL_SHARES, PRETRAININGS, REFITS

YARDSTICK = 0.94
"""5 % of the labels within 6 % of all, as self-supervised pretraining on kidney sections came to (arXiv 2412.15389)."""

_SMALL = 0.05
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#555555", "#994455")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def label_frame(view: StudyView, measure: str, selection: str, domain: str = ALL_TARGETS) -> pd.DataFrame:
    """One row per strategy: start, labels, share, annotated objects (mean over trainings), score over all targets (or
    sources) with its interval, and the score as a share of that of the same start with all labels.

    Raises:
        NotDrawable: the study does not hold several shares of the labels.
    """
    used = view.run.tables[LABEL_SHARES.path]
    if used.empty or used["share"].nunique() < 2:
        raise NotDrawable("no strategies with several shares of the labels were trained (labels: {share: 5 %})")
    used = used[used["job"].isin(_reported_jobs(view.run, selection))]
    about = used.groupby("strategy", sort=False).agg(
        start=("start", "first"), labels=("labels", "first"), share=("share", "first"), objects=("objects", "mean"),
        of=("of", "mean"), patients=("patients", "mean"),
    )  # fmt: skip
    selected = view.rows(measure, selection)
    selected = selected[(selected["domain"] == domain) & np.isfinite(selected["mean"])].set_index("strategy")
    scores = selected[["mean", "low", "high", "interval_kind", "n_patients", "domain"]]
    frame = about.join(scores, how="inner").reset_index()
    frame = frame[frame["labels"].isin(["source", "propagated"])]
    frame["align"] = [_rest(view, name) for name in frame["strategy"]]
    frame["curve"] = (
        frame["start"] + np.where(frame["labels"] == "propagated", ", propagated labels", "") + frame["align"]
    )
    whole = frame[frame["share"] == 1].drop_duplicates("curve").set_index("curve")["mean"]
    frame["of_all_labels"] = frame["mean"] / frame["curve"].map(whole)
    return frame.drop(columns="align").sort_values(["curve", "share"], kind="stable").reset_index(drop=True)


def _reported_jobs(run: LoadedRun, selection: str) -> set[str]:
    """The trainings whose scores a selection takes: the chosen ones, or those made again from all source patients."""
    chosen, refits = run.trials[run.trials["chosen"]], run.tables[REFITS.path]
    refits = refits[(refits["state"] == "complete") & (selection == "source_validation")]
    return {*refits["job"], *chosen.loc[~chosen["strategy"].isin(refits["strategy"]), "job"]}


def _rest(view: StudyView, name: str) -> str:
    """What tells a strategy's curve from others of the same start and labels: its parts that are not the plain ones."""
    strategy = next((candidate for candidate in view.run.study.strategies if candidate.name == name), None)
    if strategy is None:
        return ""
    plain = {"view": "rgb", "align": "none", "after": "none"}
    parts = [getattr(strategy, kind).name for kind, usual in plain.items() if getattr(strategy, kind).name != usual]
    parts += [part.name for part in strategy.augment if part.name != "geometry"]
    return "".join(f", {part.replace('_', ' ')}" for part in parts)


def _has_shares(run: LoadedRun) -> bool:
    return int(run.tables[LABEL_SHARES.path]["share"].nunique()) > 1


@register("label_curve", overall=True, needs=_has_shares)
def label_curve(view: StudyView, measure: str, selection: str) -> Plot:
    frames = [label_frame(view, measure, selection, domain) for domain in (ALL_SOURCES, ALL_TARGETS)]
    frames = [frame for frame in frames if len(frame)]
    frame = pd.concat(frames, ignore_index=True)
    words = " ".join(sentence for frame in frames for sentence in _yardstick(frame))
    return Plot(
        _draw(frames, axis_title(measure), axis_limits(measure, frame)),
        frame,
        f"{measure_title(measure)} over test patients, in the source's and in the target domains, against the number "
        "of annotated objects of the source's training "
        "patients, a curve per start. Shares are nested, drawn by the seed of each training. Validation patients keep "
        "all their labels, by which checkpoints and thresholds are chosen. "
        f"{sample(view.rows(measure), view.level, True)} {words}",
        "Curves of score against the number of annotated objects, one per start; numbers in the table.",
    )


def _draw(frames: Sequence[pd.DataFrame], axis: str, limits: tuple[float, float]) -> Figure:
    with mpl.rc_context(STYLE):
        curves = list(dict.fromkeys(pd.concat(frames)["curve"]))
        figure, places = new_figure(
            70 + 5 * len(curves), 85 * len(frames), ncols=len(frames), sharey=True, squeeze=False
        )
        for place, frame in zip(places.flat, frames, strict=True):
            _panel(place, frame, curves)
            place.set_ylim(*limits)
            place.set_title(str(frame["domain"].iloc[0]))
        places.flat[0].set_ylabel(axis)
        handles, names = places.flat[0].get_legend_handles_labels()
        figure.supxlabel("annotated objects of the source's training patients", fontsize=8)
        figure.legend(handles, names, loc="outside lower center", ncols=1, frameon=False, fontsize=7.5)
        return figure


def _panel(place: Axes, frame: pd.DataFrame, curves: Sequence[str]) -> None:
    for index, name in enumerate(curves):
        rows = frame[frame["curve"] == name].sort_values("objects")
        shift = 1 + 0.03 * (index - (len(curves) - 1) / 2)  # side by side where starts have the same number
        at, mean = rows["objects"].to_numpy(float) * shift, rows["mean"].to_numpy(float)
        known = np.isfinite(rows["low"].to_numpy(float))
        low, high = (rows[end].to_numpy(float)[known] for end in ("low", "high"))
        colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
        place.plot(at, mean, color=colour, marker=marker, markersize=4.5, linewidth=1.1, label=name)
        place.vlines(at[known], low, high, color=colour, linewidth=0.8, alpha=0.7)
    place.set_xscale("log")
    ticks = sorted({round(value) for value in frame["objects"]})
    place.set_xticks(ticks)
    place.xaxis.set_major_formatter(ScalarFormatter())
    place.xaxis.set_minor_locator(NullLocator())
    place.grid()


def _yardstick(frame: pd.DataFrame) -> list[str]:
    """What 5 % of the labels reach of all, by start, against what was published for it."""
    rows = frame[np.isclose(frame["share"], _SMALL) & np.isfinite(frame["of_all_labels"])]
    if rows.empty:
        return []
    shares = "; ".join(
        f"{row['curve']}: {100 * row['of_all_labels']:.0f} %"
        f" ({'within' if row['of_all_labels'] >= YARDSTICK else 'not within'} 6 %)"
        for row in rows.to_dict("records")
    )
    where = rows["domain"].iloc[0]
    return [f"With 5 % of the labels, in {where}, of the score with all (yardstick: 94 %, arXiv 2412.15389): {shares}."]


@register_score_table("label_shares", "Score by share of the labels")
def label_table(view: StudyView, measure: str) -> PageTable | None:
    """One row per start and share."""
    if view.run.tables[LABEL_SHARES.path].empty:
        return None
    try:
        frame = label_frame(view, measure, "source_validation")
    except NotDrawable:
        return None
    rows: list[list[Cell]] = [
        [
            text(row["curve"]), Cell(f"{100 * row['share']:g} %", sort=row["share"], number=True),
            Cell(f"{row['objects']:.0f} of {row['of']:.0f}", sort=row["objects"], number=True),
            number(row["patients"], 1),
            Cell(decimal(row["mean"]), ends(row), row["mean"], True),
            Cell("" if not np.isfinite(row["of_all_labels"]) else f"{100 * row['of_all_labels']:.0f} %",
                 sort=row["of_all_labels"], number=True),
        ]
        for row in frame.to_dict("records")
    ]  # fmt: skip
    columns = ["Start", "Share", "Annotated objects", "Patients", measure_title(measure), "Of all labels"]
    note = " ".join([f"Below a score: {spread_words(frame['interval_kind'], view.level)}.", *_yardstick(frame)])
    caption = f"{measure_title(measure)} over all targets by the number of annotated objects (means over trainings)."
    return PageTable("label_shares", caption, columns, rows, frame, note)


@register_table("pretraining")
def pretraining_table(run: LoadedRun) -> PageTable | None:
    """One row per training without labels: what it saw, its loss, and measures before and after."""
    frame = run.tables[PRETRAININGS.path]
    if frame.empty:
        return None
    rows: list[list[Cell]] = []
    for row in frame.to_dict("records"):
        users = [run.label(name) for name in str(row["strategies"]).split(";")]
        seen = count(int(row["patches"]), "patch") if row["pairs"] == "augmentation" else (
            f"{row['pairs_used']:.0f} pairs ({row['pairs_left_out']:.0f} too uncertain)"
        )  # fmt: skip
        rows.append([
            text(f"{row['name']}, {row['pairs']} pairs, seed {row['seed']}"), text(seen),
            _change(row["loss_first"], row["loss_last"]), _change(row["retrieval_before"], row["retrieval_after"]),
            number(row["retrieval_chance"]), _change(row["alignment_before"], row["alignment_after"]),
            _change(row["uniformity_before"], row["uniformity_after"]),
            _change(row["probe_before"], row["probe_after"]),
            Cell(duration(row["cpu_seconds"]), sort=row["cpu_seconds"], number=True), text(", ".join(users)),
        ])  # fmt: skip
    columns = [
        "Training without labels", "Saw", "Loss", "Retrieval", "By chance", "Alignment", "Uniformity", "Linear probe",
        "Processor time", "Start of",
    ]  # fmt: skip
    measured = ", ".join(dict.fromkeys(filter(None, frame["measured_on"].astype(str))))
    note = (
        "Before → after. Retrieval: share of patches whose nearest neighbour on the other section shows the same place "
        "(top-1). Alignment (less is nearer) and uniformity (less is more evenly spread): Wang & Isola 2020. Linear "
        "probe: area under the ROC curve, patches with an object in their middle against others, on source validation; "
        f"it chooses nothing. Measured on {measured}. The time is part of what each strategy that starts from it costs."
    )
    return PageTable("pretraining", "Trainings without labels that strategies start from.", columns, rows, frame, note)


def _change(before: float, after: float) -> Cell:
    if not np.isfinite(after):
        return Cell("", number=True)
    return Cell(f"{decimal(before)} → {decimal(after)}", sort=float(after), number=True)
