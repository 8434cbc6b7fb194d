"""Figures of the page, as matplotlib figures made from tables alone.

Sizes are in millimetres, text is at least 7 pt, strategies stand in the same order everywhere, and colours are those of
Okabe and Ito, distinguished by shape as well. Every function takes tables of :class:`stainda.evaluation.Analysis` and
returns a :class:`matplotlib.figure.Figure` that a notebook shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stainda.report.labels import (
    LINE_MM,
    TITLE_LETTERS,
    broken,
    column_labels,
    letters_in,
    lines,
    row_mm,
    width_mm,
)
from stainda.report.off_scale import draw_interval

INK, MUTED, LINE = "#1b1b1d", "#77777c", "#d9d9dc"
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
WIDTH_MM = 170.0
STYLE: Any = {
    "text.parse_math": False,  # a $ in a title is a $
    "font.family": "sans-serif", "font.size": 8.0, "axes.titlesize": 8.5, "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5, "ytick.labelsize": 8.0, "legend.fontsize": 7.5, "axes.linewidth": 0.6,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "axes.grid": False, "grid.color": LINE, "grid.linewidth": 0.6, "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none", "svg.fonttype": "none", "axes.axisbelow": True,
    "figure.constrained_layout.use": True, "axes.unicode_minus": True,
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How strategies are shown: their order, their titles, and which are the baseline, the ceiling and between them.

    Attributes:
        few: those that learned from a few target labels, or from all without being the ceiling: no contenders.
    """

    order: tuple[str, ...]
    titles: Mapping[str, str]
    baseline: str
    ceiling: str
    few: frozenset[str] = frozenset()

    def colour(self, strategy: str) -> str:
        known = {self.baseline: MUTED, self.ceiling: ORANGE}
        return known.get(strategy, PURPLE if strategy in self.few else BLUE)

    def marker(self, strategy: str) -> str:
        known = {self.baseline: "s", self.ceiling: "D"}
        return known.get(strategy, "P" if strategy in self.few else "o")

    def contenders(self, strategies: Iterable[str]) -> list[str]:
        """Those without target labels, in the order given."""
        return [name for name in strategies if name != self.ceiling and name not in self.few]

    def title(self, strategy: str) -> str:
        return self.titles.get(strategy, strategy)

    def row_labels(self, strategies: Iterable[str]) -> list[str]:
        """Titles to stand next to an axis, long ones in several lines."""
        return [broken(self.title(name), TITLE_LETTERS) for name in strategies]

    def present(self, strategies: Sequence[str]) -> list[str]:
        result = set(strategies)
        return [name for name in self.order if name in result] + sorted(result - set(self.order))


def new_figure(height_mm: float, width_mm: float = WIDTH_MM, **grid: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4))
    return figure, figure.subplots(**grid)


def forest(
    results: pd.DataFrame,
    look: Look,
    regions: Sequence[str],
    axis: str,
    limits: tuple[float, float] = (0.0, 1.0),
    columns: int = 5,
) -> Figure:
    """Mean and interval of every strategy, one panel per region, on one shared axis.

    Args:
        results: rows of ONE measure, selection rule and class.
        regions: domain names in the order of the panels.
        axis: label of the value axis.
        limits: its ends.
    """
    with mpl.rc_context(STYLE):
        names = look.present(list(results["strategy"]))
        figure, axes = panels(
            len(regions), columns, 14, 10 + row_mm(look.row_labels(names), 4.6) * len(names), titles=regions,
            row_labels=look.row_labels(names),
        )  # fmt: skip
        for place, region in zip(axes.flat, regions, strict=False):
            rows = results[results["domain"] == region].set_index("strategy")
            for y, name in enumerate(names):
                if name in rows.index:
                    draw_interval(place, rows.loc[name], y, look.colour(name), look.marker(name))
            if look.baseline in rows.index and np.isfinite(rows.loc[look.baseline, "mean"]):
                place.axvline(
                    rows.loc[look.baseline, "mean"], color=MUTED, linewidth=0.6, linestyle=(0, (3, 2)), zorder=0
                )
            low, high = limits
            place.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
            if limits == (0.0, 1.0):
                place.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
            place.grid(axis="x")
        strategy_axis(axes.flat[0], names, look)
        figure.supxlabel(axis, fontsize=8)
        return figure


def heat_map(
    results: pd.DataFrame,
    look: Look,
    regions: Sequence[str],
    axis: str,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Strategy × domain; the number in each cell is the mean, its colour the same number."""
    with mpl.rc_context(STYLE):
        names = look.present(list(results["strategy"]))
        table = results.pivot_table(index="strategy", columns="domain", values="mean").reindex(names, columns=regions)
        values = table.to_numpy(float)
        titles = look.row_labels(names)
        around = 24 + max(38.0, width_mm(titles))
        width = min(WIDTH_MM, around + 17 * len(regions)) if regions else WIDTH_MM
        columns, turned, below = column_labels(regions, (width - around) / max(len(regions), 1))
        figure, place = new_figure(17 + below + row_mm(titles, 6.2) * len(names), width)
        shown = place.imshow(
            np.ma.masked_invalid(values), cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto"
        )
        middle = limits[0] + 0.55 * (limits[1] - limits[0])
        for (y, x), value in np.ndenumerate(values):
            label = "–" if not np.isfinite(value) else f"{value:.2f}" if limits[1] <= 10 else f"{value:.0f}"
            tone = INK if not np.isfinite(value) else "#ffffff" if value < middle else "#000000"
            if len(regions) <= 16:
                place.text(x, y, label, ha="center", va="center", fontsize=7.5 if len(regions) <= 12 else 7, color=tone)
        place.set_xticks(range(len(regions)), columns, rotation=turned)
        place.set_yticks(range(len(names)), titles)
        place.tick_params(length=0)
        place.spines[:].set_visible(False)
        place.set_xticks(np.arange(-0.5, len(regions)), minor=True)
        bar = figure.colorbar(shown, ax=place, fraction=0.04, pad=0.02)
        bar.set_label(axis)
        bar.outline.set_visible(False)
        return figure


def gap_limits(gaps: pd.DataFrame) -> tuple[float, float]:
    """Ends of the axis of :func:`gap_closed`: at most from -150 % to 150 %; what lies beyond is marked there."""
    low = float(np.nanmin([gaps["low"].min(), gaps["gap_closed"].min(), 0.0]))
    high = float(np.nanmax([gaps["high"].max(), gaps["gap_closed"].max(), 1.0]))
    return max(low, -1.5) - 0.05, min(high, 1.5) + 0.05


def _as_percent(value: float) -> str:
    return f"{100 * value:.0f} %".replace("-", "−")


def gap_closed(gaps: pd.DataFrame, look: Look, regions: Sequence[str]) -> Figure:
    """How much of the way from the baseline to the ceiling each strategy goes, one panel per region."""
    with mpl.rc_context(STYLE):
        names = look.present(list(gaps["strategy"]))
        figure, axes = panels(
            len(regions), 5, 15, 10 + row_mm(look.row_labels(names), 5) * len(names), titles=regions,
            row_labels=look.row_labels(names),
        )  # fmt: skip
        limits = gap_limits(gaps)
        for place, region in zip(axes.flat, regions, strict=False):
            rows = gaps[gaps["domain"] == region].set_index("strategy")
            for y, name in enumerate(names):
                if name not in rows.index:
                    continue
                row = rows.loc[name]
                if np.isfinite(row["gap_closed"]):
                    shown = row.rename({"gap_closed": "mean"})
                    draw_interval(place, shown, y, look.colour(name), look.marker(name), limits, text=_as_percent)
                else:
                    place.text(0.5, y, "not given", ha="center", va="center", fontsize=7, color=MUTED)
            for x in (0, 1):
                place.axvline(x, color=MUTED, linewidth=0.6, zorder=0)
            place.set_xlim(*limits)
            place.xaxis.set_major_formatter(lambda value, _: _as_percent(value))
        strategy_axis(axes.flat[0], names, look)
        figure.supxlabel("share of the gap between baseline (0 %) and ceiling (100 %) that was closed", fontsize=8)
        return figure


def paired_differences(differences: pd.DataFrame, patients: pd.DataFrame, look: Look, axis: str) -> Figure:
    """Each patient's difference from the baseline as a dot, mean and interval above them.

    Args:
        differences: rows of one region, measure, rule and class.
        patients: the patients' scores of the same, see ``Analysis.patients``.
    """
    with mpl.rc_context(STYLE):
        scores = patients.pivot_table(index="patient", columns="strategy", values="value")
        names = look.present(list(differences["strategy"]))
        figure, place = new_figure(16 + row_mm(look.row_labels(names), 8) * len(names), 130)
        rows = differences.set_index("strategy").rename(columns={"difference": "mean"})
        for y, name in enumerate(names):
            if name in scores and look.baseline in scores:
                dots = (scores[name] - scores[look.baseline]).dropna().to_numpy()
                place.scatter(dots, np.full(len(dots), y + 0.22), s=9, facecolor="none", edgecolor=MUTED, linewidth=0.7)
            draw_interval(place, rows.loc[name], y - 0.12, look.colour(name), look.marker(name))
        place.axvline(0, color=INK, linewidth=0.7, zorder=0)
        strategy_axis(place, names, look)
        place.grid(axis="x")
        place.set_xlabel(broken(axis, 45))
        return figure


def learning_curves(curves: Mapping[str, Sequence[pd.DataFrame]], look: Look) -> Figure:
    """Source-validation Dice over epochs, one panel per strategy, one line per training of the chosen setting.

    Args:
        curves: by strategy, tables with ``epoch`` and ``val_dice``.
    """
    with mpl.rc_context(STYLE):
        names = look.present([name for name, tables in curves.items() if tables])
        figure, axes = panels(len(names), 4, 12, 32, titles=[look.title(name) for name in names])
        for place, name in zip(axes.flat, names, strict=False):
            for table in curves[name]:
                place.plot(table["epoch"], table["val_dice"], color=look.colour(name), linewidth=1)
                best = table["val_dice"].idxmax()
                point = table.loc[best]
                place.plot(
                    point["epoch"], point["val_dice"], look.marker(name), color=look.colour(name), markersize=3.5
                )
            place.set_ylim(-0.02, 1.02)
            place.grid(axis="y")
        figure.supxlabel("epoch", fontsize=8)
        figure.supylabel("Dice on source validation", fontsize=8)
        return figure


def apart(values: Any, limits: tuple[float, float], least: float) -> Any:
    """Values moved just so far that any two differ by ``least`` of the span, in their order, within the limits."""
    span = limits[1] - limits[0]
    step = least * span
    order = np.argsort(values, kind="stable")
    placed = np.array(values, float)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + step)
    over = placed[order[-1]] - limits[1] if len(order) else 0.0
    if over > 0:
        placed[order[-1]] = limits[1]
        for after, before in pairwise(order[::-1]):
            placed[before] = min(placed[before], placed[after] - step)
    return placed


def strategy_axis(place: Axes, names: Sequence[str], look: Look) -> None:
    """Strategies down the vertical axis, the first on top."""
    place.set_yticks(range(len(names)), look.row_labels(names))
    place.set_ylim(len(names) - 0.4, -0.6)


def panels(
    count: int,
    widest: int,
    around_mm: float,
    each_mm: float,
    *,
    shared: bool = True,
    titles: Sequence[str] = (),
    row_labels: Sequence[str] = (),
) -> tuple[Figure, Any]:
    """Panels in as few rows as ``widest`` columns allow, rows as equally full as can be; unused ones hidden.

    Args:
        titles: of the panels; those that are wider than their panel are broken into lines.
        row_labels: of the first panel's vertical axis, which take width from all.
    """
    while True:
        down = max(1, -(-count // widest))
        across = max(1, -(-count // down))
        room = (WIDTH_MM - width_mm(row_labels) - (4 if row_labels else 12)) / across - (3 if shared else 7)
        folded = [broken(title, letters_in(room), 6) for title in titles]
        if lines(folded) <= 3 or widest <= 3:
            break
        widest -= 1
    each_mm += LINE_MM * (lines(folded) - 1)
    figure, axes = new_figure(
        around_mm + down * each_mm, nrows=down, ncols=across, sharex=shared, sharey=shared, squeeze=False
    )
    for index, place in enumerate(axes.flat):
        place.set_visible(index < count)
        if index < len(folded):
            place.set_title(folded[index], loc="left")
        if index < count <= index + across:  # nothing below it: it carries the labels of its column
            place.tick_params(labelbottom=True)
    return figure, axes
