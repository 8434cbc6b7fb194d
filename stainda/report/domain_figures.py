"""Figures of domains: from where to where, which is worst, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stainda.report.figures import (
    BLUE,
    INK,
    LINE,
    MUTED,
    STYLE,
    WIDTH_MM,
    Look,
    apart,
    new_figure,
    strategy_axis,
)  # fmt: skip
from stainda.report.labels import LINE_MM, broken, column_labels, letters_in, lines, row_mm, width_mm
from stainda.report.off_scale import draw_interval

DISTANCES = {
    "optical_density_distance": "distance of mean optical density",
    "lab_distance": "Wasserstein distance in CIE Lab",
    "proxy_a_distance": "proxy A-distance of features",
    "cka": "CKA of features of the same tissue",
}
BOUNDED = {"proxy_a_distance": (0.0, 2.0), "cka": (0.0, 1.0)}
"""Distances whose ends are known: 2 where a classifier never mistakes a domain, CKA 1 where both agree."""


def source_to_target(
    results: pd.DataFrame, names: Sequence[str], look: Look, axis: str, limits: tuple[float, float]
) -> Figure:
    """From the source domains (framed) to every stain and centre: one matrix per strategy.

    Args:
        results: rows of single domains with ``stain``, ``centre``, ``role`` and ``mean``; one domain per stain and
            centre.
    """
    with mpl.rc_context(STYLE):
        stains = list(dict.fromkeys(results["stain"]))
        centres = list(dict.fromkeys(results["centre"]))
        row_labels = [broken(centre, 20) for centre in centres]
        room = WIDTH_MM - 26 - width_mm(row_labels)
        across = min(len(names), max(1, int(room // (6 + 13 * len(stains)))))
        down = -(-len(names) // across)
        cell = min(14.0, (room / across - 6) / len(stains))
        columns, turned, below = column_labels(stains, cell)
        titles = [broken(look.title(name), letters_in(max(cell * len(stains), 24))) for name in names]
        height = 10 + below + down * (8 + LINE_MM * lines(titles) + row_mm(row_labels, 7.5) * len(centres))
        width = min(WIDTH_MM, 26 + width_mm(row_labels) + across * (8 + max(cell * len(stains), 24)))
        figure, axes = new_figure(
            height, width, nrows=down, ncols=across, sharex=True, sharey=True, squeeze=False
        )  # fmt: skip
        middle = limits[0] + 0.55 * (limits[1] - limits[0])
        shown = None
        for index, place in enumerate(axes.flat):
            place.set_visible(index < len(names))
            if index >= len(names):
                continue
            rows = results[results["strategy"] == names[index]]
            table = rows.pivot_table(index="centre", columns="stain", values="mean").reindex(centres, columns=stains)
            values = table.to_numpy(float)
            shown = place.imshow(
                np.ma.masked_invalid(values), cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto"
            )
            for (y, x), value in np.ndenumerate(values):
                tone = INK if not np.isfinite(value) else "#ffffff" if value < middle else "#000000"
                words = f"{value:.2f}" if np.isfinite(value) else "–"
                place.text(x, y, words, ha="center", va="center", fontsize=7.5, color=tone)
            for row in rows[rows["role"] == "source"].to_dict("records"):
                corner = (stains.index(row["stain"]) - 0.46, centres.index(row["centre"]) - 0.43)
                place.add_patch(Rectangle(corner, 0.92, 0.86, fill=False, edgecolor="#d55e00", linewidth=1.8))
            place.set_title(titles[index], loc="left")
            place.set_xticks(range(len(stains)), columns, rotation=turned)
            place.set_yticks(range(len(centres)), row_labels)
            place.tick_params(length=0, labelbottom=index + across >= len(names))
            place.spines[:].set_visible(False)
        figure.supxlabel("stain tested on", fontsize=8)
        figure.supylabel("centre tested on", fontsize=8)
        assert shown is not None
        bar = figure.colorbar(shown, ax=axes, fraction=0.05, pad=0.02)
        bar.set_label(axis)
        bar.outline.set_visible(False)
        return figure


def worst_domain(table: pd.DataFrame, look: Look, axis: str, limits: tuple[float, float]) -> Figure:
    """Every target domain of each strategy as a small dot, the worst one named, with its interval.

    Args:
        table: columns ``strategy``, ``domain``, ``mean``, ``low``, ``high``, ``worst`` (bool).
    """
    with mpl.rc_context(STYLE):
        names = look.present(list(table["strategy"]))
        worst_names = {str(name): broken(str(name), 26) for name in table.loc[table["worst"], "domain"]}
        each = max(row_mm(look.row_labels(names), 6.4), row_mm(worst_names.values(), 6.4))
        figure, place = new_figure(16 + each * len(names), WIDTH_MM)
        for y, name in enumerate(names):
            rows = table[table["strategy"] == name]
            place.plot([rows["mean"].min(), rows["mean"].max()], [y, y], color=MUTED, linewidth=0.7, zorder=1)
            place.plot(rows["mean"], [y] * len(rows), "|", color=MUTED, markersize=5, zorder=2)
            worst = rows[rows["worst"]].iloc[0]
            draw_interval(place, worst, y + 0.16, look.colour(name), look.marker(name))
            side = worst["low"] if np.isfinite(worst["low"]) else worst["mean"]
            place.annotate(
                worst_names[str(worst["domain"])], (max(side, limits[0]), y + 0.16), xytext=(-6, 0),
                textcoords="offset points", ha="right", va="center", multialignment="right", fontsize=7,
            )  # fmt: skip
        strategy_axis(place, names, look)
        high = limits[1] + 0.02 * (limits[1] - limits[0])
        low = limits[0] - 0.02 * (limits[1] - limits[0])
        across = WIDTH_MM - width_mm(look.row_labels(names)) - 10
        for row in table[table["worst"]].to_dict("records"):  # room for each name to the left of its mark
            share = min((width_mm([worst_names[str(row["domain"])]]) + 7) / across, 0.6)
            side = max(row["low"] if np.isfinite(row["low"]) else row["mean"], limits[0])
            low = min(low, (side - share * high) / (1 - share))
        place.set_xlim(low, high)
        place.set_xticks([tick for tick in place.get_xticks() if limits[0] - 1e-9 <= tick <= limits[1] + 1e-9])
        place.set_xlabel(axis)
        place.grid(axis="x")
        return figure


def gap_against_loss(table: pd.DataFrame, axis: str) -> Figure:
    """Distances of target domains from the source against the score the baseline loses on them.

    Args:
        table: the columns of ``domain_gap.csv`` and ``loss``; one row per source and target.
    """
    with mpl.rc_context(STYLE):
        known = [name for name in DISTANCES if table[name].notna().sum() >= 2]
        targets = {str(name): broken(str(name), 30) for name in table["target"]}
        wide = width_mm(targets.values()) > 22
        across = 1 if wide else min(2, len(known))
        down = -(-len(known) // across)
        shares = 0.48 if not wide else 1.2 * (width_mm(targets.values()) + 4) / 90
        tall = LINE_MM * lines(targets.values()) + 0.8
        each = max(58.0, 14 + tall * len(table) * 1.15)
        figure, axes = new_figure(
            12 + each * down, 140 if wide else WIDTH_MM, nrows=down, ncols=across, sharey=True, squeeze=False
        )  # fmt: skip
        for index, place in enumerate(axes.flat):
            place.set_visible(index < len(known))
        ends = float(table["loss"].min()), float(table["loss"].max())
        room = 0.1 * max(ends[1] - ends[0], 1e-6)
        for place, name in zip(axes.flat, known, strict=False):
            rows = table[table[name].notna()]
            place.plot(rows[name], rows["loss"], "o", color=BLUE, markersize=4)
            low, high = BOUNDED.get(name, (float(rows[name].min()), float(rows[name].max())))
            width = max(high - low, 1e-6)
            heights = apart(
                rows["loss"].to_numpy(float),
                (ends[0] - room, ends[1] + room),
                min(0.06 if not wide else tall / (each - 16), 0.95 / len(rows)),
            )
            for row, height in zip(rows.to_dict("records"), heights, strict=True):
                place.plot([row[name], high + 0.12 * width], [row["loss"], height], color=LINE, linewidth=0.5, zorder=0)
                place.annotate(
                    targets[str(row["target"])], (high + 0.12 * width, height), xytext=(2, 0),
                    textcoords="offset points", va="center", fontsize=7,
                )  # fmt: skip
            place.set_xlim(low - 0.08 * width, high + shares * width)
            place.set_ylim(ends[0] - 1.6 * room, ends[1] + 1.6 * room)
            place.set_xlabel(DISTANCES[name])
            ticks = [tick for tick in place.get_xticks() if tick <= high + 0.1 * width]
            place.set_xticks(ticks if name not in BOUNDED else np.linspace(low, high, 5))
            place.grid()
        figure.supylabel(axis, fontsize=8)
        return figure
