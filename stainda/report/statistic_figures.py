"""Figures of the statistics: ranks, paired patients, sizes of effects, variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stainda.evaluation.ranking import Ranking
from stainda.report.figures import (
    BLUE,
    GREEN,
    INK,
    LINE,
    MUTED,
    ORANGE,
    STYLE,
    VERMILION,
    WIDTH_MM,
    Look,
    new_figure,
    panels,
    strategy_axis,
)  # fmt: skip
from stainda.report.labels import LINE_MM, broken, letters_in, lines, row_mm

MOST_IN_A_DIAGRAM = 20
VARIANCE_LOOK = {
    "patient": (BLUE, ""), "domain": (ORANGE, "////"), "seed": (GREEN, "...."), "rest": (LINE, ""),
}  # fmt: skip


def critical_difference(ranking: Ranking, names: Sequence[str], look: Look) -> Figure:
    """Mean ranks with bars over strategies that were not shown to differ (Demšar 2006).

    With more than :data:`MOST_IN_A_DIAGRAM` strategies the ranks alone are drawn, one line per strategy in the order of
    the study.
    """
    with mpl.rc_context(STYLE):
        if len(names) > MOST_IN_A_DIAGRAM:
            return _rank_lines(ranking, names, look)
        k, groups = len(names), ranking.groups()
        order = np.argsort(ranking.ranks, kind="stable")
        down = -(-k // 2)
        bars = 0.5 + 0.42 * len(groups)
        shown = {name: broken(look.title(name), letters_in(WIDTH_MM / 4 - 12)) for name in names}
        apart = 1 + LINE_MM * (lines(shown.values()) - 1) / 4.6
        figure, place = new_figure(20 + 4.6 * (down * apart + bars))
        pad = 0.06 * max(k - 1, 1)
        place.set_xlim(1 - 0.5 * max(k - 1, 1), k + 0.5 * max(k - 1, 1))
        place.set_ylim(-(bars + down * apart + 0.3), 1.4)
        place.axis("off")
        place.plot([1, k], [0, 0], color=INK, linewidth=0.8)
        for tick in range(1, k + 1):
            place.plot([tick, tick], [0, 0.25], color=INK, linewidth=0.8)
            place.text(tick, 0.4, str(tick), ha="center", va="bottom", fontsize=7.5)
        for index, group in enumerate(groups):
            ends = ranking.ranks[group]
            y = -0.45 - 0.42 * index
            place.plot([ends.min() - 0.03, ends.max() + 0.03], [y, y], color=MUTED, linewidth=3, solid_capstyle="butt")
        for position, which in enumerate(order):
            left = position < down
            y = -(bars + (position if left else k - 1 - position) * apart + 0.1 + 0.5 * apart)
            rank, name = float(ranking.ranks[which]), names[int(which)]
            edge = 1 - pad if left else k + pad
            colour = look.colour(name)
            place.plot([rank, rank, edge], [0, y, y], color=colour, linewidth=0.9)
            words = f"{shown[name]} {rank:.2f}" if left else f"{rank:.2f} {shown[name]}"
            gap = -0.02 if left else 0.02
            place.text(edge + gap * max(k - 1, 1), y, words, ha="right" if left else "left", va="center", fontsize=7.5)
        return figure


def _rank_lines(ranking: Ranking, names: Sequence[str], look: Look) -> Figure:
    figure, place = new_figure(16 + row_mm(look.row_labels(names), 4.6) * len(names), 150)
    for y, name in enumerate(names):
        place.plot(ranking.ranks[y], y, look.marker(name), markersize=4.2, color=look.colour(name))
    strategy_axis(place, names, look)
    place.set_xlabel("mean rank over patients (1 is best)")
    place.grid(axis="x")
    return figure


def paired_slopes(scores: pd.DataFrame, names: Sequence[str], look: Look, axis: str, better: bool = True) -> Figure:
    """Each patient's score with the baseline and with a strategy, joined by a line; one panel per strategy.

    Args:
        scores: patients × strategies.
        names: strategies to show, without the baseline.
        better: whether higher is better.
    """
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(names), 6, 16, 36, titles=[look.title(name) for name in names])
        for place, name in zip(axes.flat, names, strict=False):
            pair = scores[[look.baseline, name]].dropna().to_numpy(float)
            gain = (pair[:, 1] - pair[:, 0]) * (1 if better else -1)
            for ends, up in zip(pair, gain, strict=True):
                place.plot(
                    [0, 1], ends, color=BLUE if up > 0 else VERMILION, linewidth=0.7, alpha=0.65,
                    linestyle="-" if up > 0 else (0, (3, 2)), marker="o", markersize=1.8,
                )  # fmt: skip
            place.plot([0, 1], pair.mean(axis=0), color=INK, linewidth=1.8, marker=look.marker(name), markersize=4)
            place.set_xlim(-0.18, 1.18)
            place.set_xticks([0, 1], ["baseline", "this"])
            place.set_xlabel(f"{int((gain > 0).sum())} of {len(gain)} better", fontsize=7)
            place.grid(axis="y")
        figure.supylabel(axis, fontsize=8)
        return figure


def effects(table: pd.DataFrame, look: Look) -> Figure:
    """Hedges' g, and the probabilities of being worse, practically equal, better; one row per strategy.

    Where no strategy has such probabilities, sizes alone.
    """
    with mpl.rc_context(STYLE):
        names = look.present(list(table["strategy"]))
        rows = table.set_index("strategy").loc[names]
        height = 22 + row_mm(look.row_labels(names), 5.4) * len(names)
        if not has_posterior(rows):
            figure, left = new_figure(height, 130)
            _sizes(left, rows, look)
            return figure
        figure, (left, right) = new_figure(height, ncols=2, sharey=True, width_ratios=[1, 1.5])
        _probabilities(right, rows)
        _sizes(left, rows, look)
        figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
        return figure


def has_posterior(rows: pd.DataFrame) -> bool:
    """Whether any strategy has probabilities of being worse, equal or better."""
    return bool(rows["p_worse"].notna().any())


def _sizes(place: Any, rows: pd.DataFrame, look: Look) -> None:
    """Hedges' g of each strategy (index of ``rows``)."""
    names = list(rows.index)
    finite = np.where(np.isfinite(rows["hedges_g"]), rows["hedges_g"], np.nan)
    for y, (name, value) in enumerate(zip(names, finite, strict=True)):
        if np.isfinite(value):
            place.plot([0, value], [y, y], color=look.colour(name), linewidth=1)
            place.plot(value, y, look.marker(name), color=look.colour(name), markersize=4.2)
        else:
            place.text(0, y, " all patients alike", va="center", fontsize=7, color=INK)
    place.axvline(0, color=INK, linewidth=0.7, zorder=0)
    place.margins(x=0.12)
    place.set_xlabel("Hedges' g of paired differences")
    place.grid(axis="x")
    strategy_axis(place, names, look)


def _probabilities(place: Any, rows: pd.DataFrame) -> None:
    """Bars of each strategy's probabilities of being worse, practically equal and better."""
    start = np.zeros(len(rows))
    for column, colour, hatch, words in (
        ("p_worse", VERMILION, "////", "worse"),
        ("p_equal", LINE, "", "practically equal"),
        ("p_better", BLUE, "", "better"),
    ):
        share = rows[column].fillna(0).to_numpy(float)
        place.barh(
            range(len(rows)), share, left=start, height=0.66, color=colour, hatch=hatch, edgecolor="white",
            linewidth=0.4, label=words,
        )  # fmt: skip
        start = start + share
    place.set_xlim(0, 1)
    place.set_xlabel("posterior probability")


def variance_bars(table: pd.DataFrame, look: Look) -> Figure:
    """Share of the variance of scores between patients, domains, trainings (seeds), and the rest."""
    with mpl.rc_context(STYLE):
        names = look.present(list(table["strategy"]))
        figure, place = new_figure(22 + row_mm(look.row_labels(names), 5.2) * len(names), 150)
        start = np.zeros(len(names))
        for component, (colour, hatch) in VARIANCE_LOOK.items():
            part = table[table["component"] == component].set_index("strategy").reindex(names)
            share = part["share"].fillna(0).to_numpy(float)
            place.barh(
                range(len(names)), share, left=start, height=0.66, color=colour, hatch=hatch, edgecolor="white",
                linewidth=0.4, label=component,
            )  # fmt: skip
            start = start + share
        total = table.groupby("strategy")["variance"].sum(min_count=1).reindex(names)
        for y, value in enumerate(total):
            words = f"SD {np.sqrt(value):.3f}" if np.isfinite(value) else "cannot be estimated"
            place.text(1.02, y, words, va="center", fontsize=7.5)
        place.set_xlim(0, 1.2)
        place.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        place.set_xlabel("share of the variance of scores")
        strategy_axis(place, names, look)
        figure.legend(*place.get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False)
        return figure
