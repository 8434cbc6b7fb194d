"""Figures of labels of whole slides: AUROC by domain, and the answer for every slide."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stainda.report.figures import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, STYLE, VERMILION, new_figure

COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, INK), ("o", "s", "D", "^", "v", "P", "X")
MOST_PANELS = 7


def auroc_by_domain(rows: pd.DataFrame) -> Figure:
    """AUROC with intervals, domains down the vertical axis, aggregators next to each other.

    Args:
        rows: of summary.csv, with ``where``.
    """
    places, names = list(dict.fromkeys(rows["where"])), list(dict.fromkeys(rows["aggregator"]))
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(22 + 6 * len(places) * max(2, len(names)) ** 0.8)
        axes.axvline(0.5, color=MUTED, linewidth=0.6, linestyle=(0, (3, 2)))
        for number, name in enumerate(names):
            mine = rows[rows["aggregator"] == name].set_index("where")
            y = np.array([places.index(place) for place in mine.index]) + (number - (len(names) - 1) / 2) * 0.7 / len(
                names
            )
            colour = COLOURS[number % len(COLOURS)]
            axes.hlines(y, mine["low"], mine["high"], color=colour, linewidth=1.4)
            axes.plot(mine["mean"], y, MARKERS[number % len(MARKERS)], color=colour, markersize=4, label=name)
        axes.set_yticks(range(len(places)), places)
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("AUROC")
        axes.grid(axis="x")
        figure.legend(loc="outside upper right", ncols=len(names), frameon=False)
        return figure


def slides_by_label(rows: pd.DataFrame) -> Figure:
    """The log odds of every slide by its label, one panel per aggregator.

    Args:
        rows: ``aggregator, domain, slide, label, positive, log_odds``.
    """
    names = list(dict.fromkeys(rows["aggregator"]))[:MOST_PANELS]
    labels = rows.drop_duplicates("label").sort_values("positive", kind="stable")["label"].tolist()
    domains = list(dict.fromkeys(rows["domain"]))
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(64, ncols=len(names), squeeze=False, sharey=True)
        for place, name in zip(axes[0], names, strict=True):
            for number, domain in enumerate(domains):
                mine = rows[(rows["aggregator"] == name) & (rows["domain"] == domain)]
                x = mine["label"].map(labels.index).to_numpy(float) + (number - (len(domains) - 1) / 2) * 0.6 / len(
                    domains
                )
                turn = (np.arange(len(mine)) * 0.618) % 1 - 0.5  # the same dots at every drawing
                place.plot(
                    x + turn * 0.35 / len(domains), mine["log_odds"], MARKERS[number % len(MARKERS)], markersize=3,
                    color=COLOURS[number % len(COLOURS)], alpha=0.75, linestyle="none", label=domain,
                )  # fmt: skip
                for label, members in mine.groupby("label"):
                    middle = labels.index(label) + (number - (len(domains) - 1) / 2) * 0.6 / len(domains)
                    place.hlines(members["log_odds"].median(), middle - 0.14, middle + 0.14, color=INK, linewidth=1.2)
            place.axhline(0, color=MUTED, linewidth=0.6, linestyle=(0, (3, 2)))
            place.set_xticks(range(len(labels)), labels)
            place.set_xlim(-0.6, len(labels) - 0.4)
            place.set_title(name)
            place.grid(axis="y")
        axes[0][0].set_ylabel("log odds of the label")
        handles, words = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper right", ncols=len(domains), frameon=False)
        return figure
