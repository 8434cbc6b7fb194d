"""Figures of several studies side by side."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.comparison import StudyComparison
from stainda.report.figures import INK, STYLE, WIDTH_MM, Look, new_figure, panels, strategy_axis
from stainda.report.labels import TITLE_LETTERS, broken, column_labels, row_mm, width_mm
from stainda.report.off_scale import draw_interval
from stainda.report.study_view import axis_limits, axis_title
from stainda.report.summary_text import measure_title
from stainda.report.tables import spread_words

Drawn = tuple[Figure | None, pd.DataFrame, str]


def look_of(comparison: StudyComparison) -> Look:
    """All strategies of all studies, in the order of the first study that has them."""
    order = tuple(dict.fromkeys(name for study in comparison.studies for name in study.view.look.order))
    titles = {name: title for study in reversed(comparison.studies) for name, title in study.view.look.titles.items()}
    first = comparison.studies[0].view.look
    few = frozenset().union(*(study.view.look.few for study in comparison.studies)) - {first.ceiling}
    return Look(order, titles, first.baseline, first.ceiling, few)


def studies(comparison: StudyComparison, level: str) -> Drawn:
    """A panel per study: each strategy's mean and interval over all that the study asks about."""
    rows = comparison.overall
    look = look_of(comparison)
    with mpl.rc_context(STYLE):
        names = look.present(list(rows["strategy"]))
        figure, axes = panels(
            len(comparison.studies), 4, 14, 10 + row_mm(look.row_labels(names), 4.6) * len(names),
            titles=[study.key for study in comparison.studies], row_labels=look.row_labels(names),
        )  # fmt: skip
        limits = axis_limits(comparison.measure, rows)
        for place, study in zip(axes.flat, comparison.studies, strict=False):
            mine = rows[rows["study"] == study.key].set_index("strategy")
            for y, name in enumerate(names):
                if name in mine.index:
                    draw_interval(place, mine.loc[name], y, look.colour(name), look.marker(name))
            place.set_xlim(limits[0] - 0.02 * limits[1], limits[1] * 1.02)
            place.grid(axis="x")
        strategy_axis(axes.flat[0], names, look)
        figure.supxlabel(axis_title(comparison.measure), fontsize=8)
    n = ", ".join(
        f"{study.key} {int(rows.loc[rows['study'] == study.key, 'n_patients'].max())}" for study in comparison.studies
    )
    caption = (
        f"Mean {measure_title(comparison.measure)} over each study's own {comparison.asked}. Lines: "
        f"{spread_words(rows['interval_kind'], level)}; test patients: {n}. Not paired."
    )
    return figure, rows, caption


def source_to_target(comparison: StudyComparison) -> Drawn:
    """From the sources of each study (rows) to every domain (columns), for each study's baseline and best contender."""
    frames = []
    for study in comparison.studies:
        rows = comparison.scores[(comparison.scores["study"] == study.key) & np.isfinite(comparison.scores["mean"])]
        rows = rows[~rows["domain"].isin([ALL_TARGETS, ALL_SOURCES])]
        for role, name in (("baseline", study.view.look.baseline), ("best", study.view.best(comparison.measure))):
            mine = rows[rows["strategy"] == name]
            run = study.view.run
            label = study.key if run.rotates else f"{', '.join(run.study.protocol.teachers)} ({study.key})"
            frames.append(mine.assign(shown=role, row=label))
    frame = pd.concat(frames, ignore_index=True)
    domains = list(dict.fromkeys(frame["domain"]))
    labels = list(dict.fromkeys(frame["row"]))
    if not domains or len(domains) > 30:
        return None, frame, ""
    limits = axis_limits(comparison.measure, frame)
    with mpl.rc_context(STYLE):
        row_labels = [broken(label, TITLE_LETTERS) for label in labels]
        columns, turned, below = column_labels(domains, (WIDTH_MM - 24 - width_mm(row_labels)) / len(domains))
        height = 20 + below + 2 * (12 + row_mm(row_labels, 7) * len(labels))
        figure, axes = new_figure(height, WIDTH_MM, nrows=2, sharex=True, squeeze=False)
        shown = None
        for place, role in zip(axes.flat, ("baseline", "best"), strict=True):
            table = frame[frame["shown"] == role].pivot_table(index="row", columns="domain", values="mean")
            values = table.reindex(labels, columns=domains).to_numpy(float)
            shown = place.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=limits[0], vmax=limits[1],
                                 aspect="auto")  # fmt: skip
            middle = limits[0] + 0.55 * (limits[1] - limits[0])
            for (y, x), value in np.ndenumerate(values):
                tone = INK if not np.isfinite(value) else "#ffffff" if value < middle else "#000000"
                place.text(x, y, f"{value:.2f}" if np.isfinite(value) else "–", ha="center", va="center", fontsize=7,
                           color=tone)  # fmt: skip
            place.set_title("baseline" if role == "baseline" else "best contender of each study", loc="left")
            place.set_yticks(range(len(labels)), row_labels)
            place.set_xticks(range(len(domains)), columns, rotation=turned)
            place.tick_params(length=0)
            place.spines[:].set_visible(False)
        assert shown is not None
        bar = figure.colorbar(shown, ax=axes, fraction=0.04, pad=0.02)
        bar.set_label(axis_title(comparison.measure))
        bar.outline.set_visible(False)
    noun = "rotation" if comparison.studies[0].view.run.rotates else "domain"
    caption = (
        f"From the source of each study (rows) to every {noun} (columns): mean {measure_title(comparison.measure)} "
        f"(n ≤ {int(frame['n_patients'].max())} test patients per cell; intervals in the CSV)."
    )
    return figure, frame, caption


def paired(comparison: StudyComparison, level: str) -> Drawn:
    """Differences of the same strategy between studies, paired by patient, a panel per later study."""
    if comparison.paired.empty:
        return None, comparison.paired, ""
    look = look_of(comparison)
    others = list(dict.fromkeys(comparison.paired["second"]))
    with mpl.rc_context(STYLE):
        names = look.present(list(comparison.paired["strategy"]))
        figure, axes = panels(
            len(others), 4, 16, 10 + row_mm(look.row_labels(names), 5) * len(names),
            titles=[f"{other} − {comparison.studies[0].key}" for other in others], row_labels=look.row_labels(names),
        )  # fmt: skip
        for place, other in zip(axes.flat, others, strict=False):
            mine = comparison.paired[comparison.paired["second"] == other].set_index("strategy")
            for y, name in enumerate(names):
                if name in mine.index:
                    row = mine.loc[name].rename({"difference": "mean"})
                    draw_interval(place, row, y, look.colour(name), look.marker(name))
            place.axvline(0, color=INK, linewidth=0.7, zorder=0)
            place.grid(axis="x")
        strategy_axis(axes.flat[0], names, look)
        figure.supxlabel(f"difference in {axis_title(comparison.measure)}", fontsize=8)
    counts = comparison.paired["n_patients"]
    caption = (
        f"The same strategy in two studies on the same patients. Lines: "
        f"{spread_words(comparison.paired['interval_kind'], level)}; n = "
        f"{counts.min()}{f' to {counts.max()}' if counts.max() > counts.min() else ''} shared test patients."
    )
    return figure, comparison.paired, caption
