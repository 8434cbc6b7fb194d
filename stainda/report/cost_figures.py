"""What a training cost against its score."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stainda.arrays import Array
from stainda.report.figures import LINE, STYLE, Look, apart, new_figure
from stainda.report.labels import row_mm, width_mm

ACROSS = 3


def cost_against_score(
    cost: pd.DataFrame, quantities: Mapping[str, str], look: Look, axis: str, limits: tuple[float, float] = (0.0, 1.0)
) -> Figure:
    """A panel per quantity, all with the score upwards; names stand at the right of each row, joined to their marks.

    Args:
        cost: columns ``strategy``, ``mean``, ``low``, ``high`` and those of ``quantities``.
        quantities: columns and the titles of their axes.
    """
    with mpl.rc_context(STYLE):
        down = -(-len(quantities) // ACROSS)
        across = -(-len(quantities) // down)
        names = look.row_labels(cost["strategy"])
        each = row_mm(names, 5)
        height = max(62, 20 + each * len(cost))
        figure, axes = new_figure(
            down * height, 150 if across == 1 else 170, nrows=down, ncols=across, sharey=True, squeeze=False
        )
        margin = min(0.4, (width_mm(names) + 2) / (25.4 * figure.get_size_inches()[0]))
        figure.set_layout_engine("constrained", rect=(0, 0, 1 - margin, 1))
        heights = apart(cost["mean"].to_numpy(float), limits, each / max(42, each * len(cost)))
        places = list(axes.flat)
        for index, (place, (column, title)) in enumerate(zip(places, quantities.items(), strict=False)):
            last = index % across == across - 1 or index == len(quantities) - 1
            _panel(place, cost, column, look, heights if last else None)
            place.set_xlabel(title)
            place.set_ylim(*limits)
        for place in places[len(quantities) :]:
            place.set_visible(False)
        figure.supylabel(axis, fontsize=8)
        return figure


def _panel(place: Axes, cost: pd.DataFrame, column: str, look: Look, heights: Array | None) -> None:
    """One quantity; with names, where ``heights`` says how high each stands."""
    widest = max(1e-6, float(cost[column].max())) * 1.08
    for number, row in enumerate(cost.to_dict("records")):
        name = row["strategy"]
        if np.isfinite(row[column]):
            ends = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]] if np.isfinite(row["low"]) else None
            place.errorbar(
                row[column], row["mean"], yerr=ends, fmt=look.marker(name), color=look.colour(name),
                markersize=5, linewidth=0.9,
            )  # fmt: skip
        if heights is not None:
            start = row[column] if np.isfinite(row[column]) else widest
            place.plot([start, widest], [row["mean"], heights[number]], color=LINE, linewidth=0.6, zorder=0)
            place.annotate(
                look.row_labels([name])[0], (widest, heights[number]), xytext=(3, 0), textcoords="offset points",
                va="center", fontsize=7.5, annotation_clip=False,
            )  # fmt: skip
    place.set_xlim(0, widest)
    place.locator_params(axis="x", nbins=4)
    place.grid()
