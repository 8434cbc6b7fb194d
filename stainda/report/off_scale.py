"""Marks for what lies beyond the ends of an axis: an arrowhead at the border, and the value next to it.

A figure whose axis is narrower than its numbers draws with these, and its caption ends with :func:`words`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stainda.evaluation.crossed import RANGE

Limits = tuple[float, float]
GID = "off-scale"
"""Group id of every mark, in the SVG and for tests."""


def two_decimals(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def is_beyond(value: Any, limits: Limits) -> bool:
    """Whether a finite number lies outside the axis."""
    return bool(np.isfinite(value)) and not limits[0] <= value <= limits[1]


def count_beyond(rows: pd.DataFrame, limits: Limits, columns: tuple[str, ...] = ("mean", "low", "high")) -> int:
    """Rows of which a mean or an end of an interval lies outside the axis."""
    values = rows[list(columns)].to_numpy(float)
    return int((np.isfinite(values) & ((values < limits[0]) | (values > limits[1]))).any(axis=1).sum())


def words(number: int) -> str:
    """What a caption says of ``number`` marks beyond the axis; nothing where there are none."""
    if not number:
        return ""
    what = "One mark or interval goes" if number == 1 else f"{number} marks or intervals go"
    return f" {what} beyond the axis: an arrowhead at its end, with the value."


def draw_beyond(
    place: Axes,
    value: float,
    y: float,
    limits: Limits,
    colour: str,
    text: Callable[[float], str] = two_decimals,
    *,
    above: float = 0.0,
) -> None:
    """An arrowhead at the border that ``value`` lies behind, and the value inside the axis next to it.

    Args:
        limits: ends of the horizontal axis, data coordinates.
        y: height of the mark, data coordinates.
        text: the number in words.
        above: points by which the number stands above the mark (below it: negative), off the line.
    """
    right = value > limits[1]
    border = limits[1] if right else limits[0]
    place.plot(
        border, y, ">" if right else "<", markersize=4.6, color=colour, clip_on=False, zorder=4, gid=GID,
    )  # fmt: skip
    place.annotate(
        text(value), (border, y), xytext=(-5 if right else 5, above), textcoords="offset points",
        ha="right" if right else "left", va="bottom" if above > 0 else "top" if above < 0 else "center",
        fontsize=7, gid=GID, zorder=5,
    )  # fmt: skip


def draw_interval(
    place: Axes,
    row: pd.Series,
    y: float,
    colour: str,
    marker: str,
    limits: Limits | None = None,
    *,
    text: Callable[[float], str] = two_decimals,
) -> None:
    """A mean and its interval on a horizontal axis; hollow where there is no interval, dotted where the
    line is the range of few patients.

    Args:
        row: ``mean``, ``low``, ``high``, and ``interval_kind`` where that is known.
        limits: ends of the axis, which the caller sets: what lies beyond them is drawn by :func:`draw_beyond`.
        text: how values beyond the axis are written.
    """
    mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
    if not np.isfinite(mean):
        return
    ends = limits or (-np.inf, np.inf)
    known = np.isfinite(low) and np.isfinite(high)
    is_range = row.get("interval_kind") == RANGE
    if known and low <= ends[1] and high >= ends[0]:
        place.plot(
            [max(low, ends[0]), min(high, ends[1])], [y, y], color=colour, linewidth=1.3, solid_capstyle="butt",
            linestyle=(0, (1, 1)) if is_range else "-",
        )  # fmt: skip
    face = colour if known and not is_range else "none"
    if is_beyond(mean, ends):
        draw_beyond(place, mean, y, ends, colour, text, above=1.5)
    else:
        place.plot(mean, y, marker, markersize=4.2, markerfacecolor=face, markeredgecolor=colour)
    for end in (low, high):
        same_side = (end > ends[1] and mean > ends[1]) or (end < ends[0] and mean < ends[0])
        if known and is_beyond(end, ends) and not same_side:  # the mean's own arrowhead says it already
            draw_beyond(place, end, y, ends, colour, text, above=1.5)
