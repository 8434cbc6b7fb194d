"""The matrix from the sources of each rotation to every domain that was tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stainda.evaluation.selection import DEFAULT_RULE
from stainda.report.figure_registry import Plot, register
from stainda.report.figures import INK, STYLE, VERMILION, WIDTH_MM, Look, new_figure
from stainda.report.labels import LINE_MM, broken, column_labels, letters_in, lines, row_mm, width_mm
from stainda.report.study_view import NotDrawable, StudyView, axis_limits, axis_title
from stainda.report.summary_text import measure_title

MOST_NUMBERS = 18
"""Columns of a matrix above which its cells carry colour alone."""


MOST_SOURCES = 40
"""Rotations above which the matrix has too many rows."""


@dataclass(frozen=True)
class Matrix:
    """What is drawn: one matrix per strategy.

    Attributes:
        pairs: columns ``strategy``, ``rotation``, ``domain``, ``role``, ``mean``; cells of role ``source`` are framed.
        rows: titles of the rotations, in their order.
        domains: the columns, in their order.
    """

    pairs: pd.DataFrame
    names: Sequence[str]
    rows: Mapping[str, str]
    domains: Sequence[str]
    limits: tuple[float, float]


@register("source_target", rotations="several")
def source_target(view: StudyView, measure: str, selection: str) -> Plot:
    if selection != DEFAULT_RULE:
        raise NotDrawable("the matrix from sources to targets is made under source_validation alone")
    pairs, groups = view.pairs(measure), view.analysis.groups
    if len(groups) > MOST_SOURCES:
        raise NotDrawable(f"there are {len(groups)} rotations, too many rows; the table has them")
    wanted = dict.fromkeys([view.look.baseline, view.best(measure) or "", view.look.ceiling])
    names = [name for name in view.look.present(list(pairs["strategy"].unique())) if name in wanted]
    shown = [name for name in domains_in_order(view) if name in set(pairs["domain"])]
    title, limits = measure_title(measure), axis_limits(measure, pairs)
    matrix = Matrix(pairs, names, {group.name: group.label for group in groups}, shown, limits)
    framed = "; framed: other patients of the sources themselves" if pairs["role"].eq("source").any() else ""
    return Plot(
        sources_to_targets(matrix, view.look, axis_title(measure)),
        pairs,
        f"Mean {title} from the sources of each rotation (rows) to each domain (columns): the baseline, the best "
        f"mean over all rotations without target labels, and the ceiling{framed} (n ≤ {pairs['n_patients'].max()} test "
        f"patients per cell; {view.level} intervals and the other strategies are in the CSV).",
        f"Matrices of {title}, sources by tested domains, for {len(names)} strategies; numbers in the table.",
    )


def domains_in_order(view: StudyView) -> list[str]:
    """Every domain that was tested, by centre, then stain."""
    pairs = view.analysis.pairs.drop_duplicates("domain").sort_values(["centre", "stain"], kind="stable")
    return [str(name) for name in pairs["domain"]]


def sources_to_targets(matrix: Matrix, look: Look, axis: str) -> Figure:
    """From the sources of each rotation (rows) to each domain (columns): one matrix per strategy."""
    pairs, names, rows, domains, limits = matrix.pairs, matrix.names, matrix.rows, matrix.domains, matrix.limits
    with mpl.rc_context(STYLE):
        row_labels = [broken(title, 28) for title in rows.values()]
        labels = 6 + width_mm(row_labels)
        cell = 11.0 if len(domains) <= MOST_NUMBERS else 6.0
        each = 6 + cell * len(domains)
        across = int(max(1, min(len(names), (WIDTH_MM - labels - 16) // each)))
        down = -(-len(names) // across)
        cell = min(cell, ((WIDTH_MM - labels - 18) / across - 6) / len(domains))
        columns, turned, below = column_labels(domains, cell)
        titles = [broken(look.title(name), letters_in(max(cell * len(domains), 24))) for name in names]
        tall = 6 + LINE_MM * lines(titles) + row_mm(row_labels, 6.6) * len(rows)
        figure, axes = new_figure(
            12 + below + down * tall, min(WIDTH_MM, labels + 18 + across * max(each, 30)),
            nrows=down, ncols=across, sharex=True, sharey=True, squeeze=False,
        )  # fmt: skip
        middle = limits[0] + 0.55 * (limits[1] - limits[0])
        order = list(rows)
        shown = None
        for index, place in enumerate(axes.flat):
            place.set_visible(index < len(names))
            if index >= len(names):
                continue
            mine = pairs[pairs["strategy"] == names[index]]
            table = mine.pivot_table(index="rotation", columns="domain", values="mean")
            values = table.reindex(index=order, columns=list(domains)).to_numpy(float)
            shown = place.imshow(
                np.ma.masked_invalid(values), cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto"
            )
            if len(domains) <= MOST_NUMBERS:
                for (y, x), value in np.ndenumerate(values):
                    tone = INK if not np.isfinite(value) else "#ffffff" if value < middle else "#000000"
                    words = "–" if not np.isfinite(value) else f"{value:.2f}" if limits[1] <= 10 else f"{value:.0f}"
                    place.text(x, y, words, ha="center", va="center", fontsize=7, color=tone)
            for own in mine[mine["role"] == "source"].to_dict("records"):
                corner = (list(domains).index(own["domain"]) - 0.46, order.index(own["rotation"]) - 0.42)
                place.add_patch(Rectangle(corner, 0.92, 0.84, fill=False, edgecolor=VERMILION, linewidth=1.4))
            place.set_title(titles[index], loc="left")
            place.set_xticks(range(len(domains)), columns, rotation=turned)
            place.set_yticks(range(len(order)), row_labels)
            place.tick_params(length=0, labelbottom=index + across >= len(names))
            place.spines[:].set_visible(False)
        figure.supxlabel("tested on", fontsize=8)
        assert shown is not None
        bar = figure.colorbar(shown, ax=axes, fraction=0.05, pad=0.02)
        bar.set_label(axis)
        bar.outline.set_visible(False)  # type: ignore[operator]
        return figure
