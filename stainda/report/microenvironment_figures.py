"""Figures of the micro-environment: density by distance, patients, groups, structures on their section, stains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stainda.arrays import Array
from stainda.report.figures import BLUE, GREEN, INK, LINE, MUTED, ORANGE, PURPLE, STYLE, VERMILION, new_figure

COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION), ("o", "s", "D", "^", "v")
MOST_PANELS = 6


def middles(frame: pd.DataFrame) -> Array:
    """Where a step of the curve is drawn: inside half a step before 0, beyond half a step after the last."""
    step = float((frame["to_um"] - frame["from_um"]).median())
    low = frame["from_um"].fillna(-step).to_numpy(float)
    return low + np.where(frame["to_um"].isna(), step / 2, (frame["to_um"].fillna(0).to_numpy(float) - low) / 2)


def density_by_distance(curves: pd.DataFrame) -> Figure:
    """Relative density by distance with its envelope, one panel per scope.

    Args:
        curves: rows of the function ``density`` of one stain, scopes ``all`` and ``group``.
    """
    names = list(dict.fromkeys(zip(curves["scope"], curves["name"], strict=True)))[:MOST_PANELS]
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(62, ncols=len(names), squeeze=False, sharey=True)
        for place, (scope, name) in zip(axes[0], names, strict=True):
            rows = curves[(curves["scope"] == scope) & (curves["name"] == name)]
            x = middles(rows)
            place.fill_between(
                x, rows["low"], rows["high"], color=LINE, linewidth=0, label="envelope of the simulations"
            )
            place.axhline(1, color=MUTED, linewidth=0.6, linestyle=(0, (3, 2)))
            place.axvline(0, color=MUTED, linewidth=0.6)
            place.plot(x, rows["value"], color=BLUE, marker="o", markersize=3, linewidth=1.2, label="observed")
            place.vlines(x, rows["ci_low"], rows["ci_high"], color=BLUE, linewidth=0.8)
            p = rows["p"].iloc[0]
            place.set_title(f"{'all patients' if scope == 'all' else name}{'' if np.isnan(p) else f', p = {p:.3f}'}")
            place.grid(axis="y")
        axes[0][0].set_ylabel("density, relative to equal density")
        axes[0][0].set_ylim(bottom=0)
        handles, labels = axes[0][-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
        figure.supxlabel(
            "distance from the outline of the nearest structure, µm (left of 0: inside; last: beyond)", fontsize=8
        )
        return figure


PAIR_FUNCTIONS = {
    "cross_g": "g, cells about centres of structures", "g": "g, cells about cells",
    "cross_L": "L − r, µm, cells about centres", "L": "L − r, µm, cells about cells",
    "cross_K": "K, 1000 µm², cells about centres", "K": "K, 1000 µm², cells about cells",
}  # fmt: skip


def pair_functions(curves: pd.DataFrame) -> Figure:
    """Pair correlation, L and Ripley's K of cells about structures and about cells, with envelopes where there are.

    Args:
        curves: rows of one stain and scope, of each function those of one null hypothesis.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(140, nrows=3, ncols=2, squeeze=False)
        for place, (function, title) in zip(axes.ravel(), PAIR_FUNCTIONS.items(), strict=True):
            rows = curves[curves["function"] == function]
            kind = function.removeprefix("cross_")
            low, high = rows["from_um"].to_numpy(float), rows["to_um"].to_numpy(float)
            x = (low + high) / 2 if kind == "g" else high  # L and K are of all that is nearer
            chance = {"g": np.ones(len(x)), "L": np.zeros(len(x)), "K": np.pi * x**2 / 1000}[kind]
            columns = ["low", "high", "value", "ci_low", "ci_high"]
            around = rows[columns] / (1000 if kind == "K" else 1)
            place.fill_between(x, around["low"], around["high"], color=LINE, linewidth=0)
            place.plot(x, chance, color=MUTED, linewidth=0.6, linestyle=(0, (3, 2)))
            place.plot(x, around["value"], color=BLUE, marker="o", markersize=3, linewidth=1.2)
            place.vlines(x, around["ci_low"], around["ci_high"], color=BLUE, linewidth=0.8)
            p = rows["p"].iloc[0] if len(rows) else np.nan
            place.set_title(f"{title}{'' if np.isnan(p) else f', p = {p:.3f}'}")
            place.set_xlim(left=0)
            if kind != "L":
                place.set_ylim(bottom=0)
            place.grid(axis="y")
        figure.supxlabel("distance, µm", fontsize=8)
        return figure


def patient_strip(patients: pd.DataFrame, zones: Sequence[str]) -> Figure:
    """Density of every patient with its interval, one panel per zone, groups apart.

    Args:
        patients: rows of patients.csv of one stain.
    """
    groups = sorted({*patients["group"]})
    shown = [zone for zone in zones if (patients["measure"] == zone).any()][:MOST_PANELS]
    order = patients.drop_duplicates("patient").sort_values(["group", "patient"], kind="stable")["patient"].tolist()
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(max(45, 16 + 4.2 * len(order)), ncols=len(shown), squeeze=False, sharey=True)
        for place, zone in zip(axes[0], shown, strict=True):
            rows = patients[patients["measure"] == zone].set_index("patient")
            for y, patient in enumerate(order):
                if patient not in rows.index or np.isnan(rows.loc[patient, "value"]):
                    continue
                row = rows.loc[patient]
                index = groups.index(row["group"]) % len(COLOURS)
                place.plot([row["low"], row["high"]], [y, y], color=COLOURS[index], linewidth=1)
                place.plot(row["value"], y, MARKERS[index], color=COLOURS[index], markersize=4)
            place.set_title(f"{zone} µm" if zone[0].isdigit() else zone)
            place.set_xlim(left=0)
            place.grid(axis="x")
        axes[0][0].set_yticks(range(len(order)), order)
        axes[0][0].invert_yaxis()
        if len(groups) > 1:
            handles = [
                mpl.lines.Line2D(
                    [], [], color=COLOURS[k % 5], marker=MARKERS[k % 5], linestyle="", label=name or "no group"
                )
                for k, name in enumerate(groups)
            ]
            figure.legend(handles=handles, loc="outside upper right", ncols=len(groups), frameon=False)
        figure.supxlabel("cells per mm²", fontsize=8)
        return figure


def group_differences(groups: pd.DataFrame, titles: Sequence[str]) -> Figure:
    """Difference of every measure over the mean of both groups, with its interval; filled where q is below 0.05.

    Args:
        groups: rows of groups.csv of one stain and one pair of groups, with a test. titles: of their measures.
    """
    scale = ((groups["mean_first"] + groups["mean_second"]) / 2).abs().to_numpy(float)
    value, low, high = (groups[name].to_numpy(float) / scale for name in ("difference", "low", "high"))
    with mpl.rc_context(STYLE):
        figure, place = new_figure(18 + 5 * len(groups))
        place.axvline(0, color=MUTED, linewidth=0.6)
        for y, (at, a, b, q) in enumerate(zip(value, low, high, groups["q"], strict=True)):
            place.plot([a, b], [y, y], color=BLUE, linewidth=1)
            place.plot(at, y, "o", color=BLUE, markersize=5, markerfacecolor=BLUE if q < 0.05 else "white")
            place.annotate(f"q = {q:.3f}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7)
        place.set_yticks(range(len(groups)), titles)
        place.invert_yaxis()
        place.grid(axis="x")
        first, second = groups["first"].iloc[0], groups["second"].iloc[0]
        place.set_xlabel(f"{second} less {first}, over the mean of both (filled: q < 0.05)")
        return figure


def on_section(
    thumbnail: Path, size: tuple[float, float], outlines: list[Array], densities: Array, cells: Array
) -> Figure:
    """Structures on the thumbnail of their section, coloured by the cells around them, and the cells.

    Args:
        size: width and height of the section, level-0 pixels. outlines: rings (n, 2) of the structures; cells: (n, 2);
            both level-0 pixels. densities: of each structure, cells per mm².
    """
    from PIL import Image

    with mpl.rc_context(STYLE), Image.open(thumbnail) as opened:
        picture = np.asarray(opened.convert("RGB"))
        ratio = size[1] / size[0]
        figure, place = new_figure(min(120.0, 105 * ratio + 8), 125.0)
        place.imshow(picture, extent=(0, size[0], size[1], 0), alpha=0.6)
        place.plot(cells[:, 0], cells[:, 1], ".", color=INK, markersize=1.2, markeredgewidth=0)
        top = float(np.nanmax(densities, initial=1.0))
        colours = mpl.colormaps["viridis"]
        for ring, rate in zip(outlines, densities, strict=True):
            colour = colours(min(rate / top, 1.0)) if np.isfinite(rate) else MUTED
            place.plot(ring[:, 0], ring[:, 1], color=colour, linewidth=1.8)
        place.set_axis_off()
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, top), colours)
        figure.colorbar(scale, ax=place, label="cells per mm² in the first ring", shrink=0.7)
        return figure


def across_stains(frame: pd.DataFrame, first: str, second: str) -> Figure:
    """The same structures on two stains: density of the one against that of the other, patients by colour and shape.

    Args:
        frame: ``patient``, and the densities in columns named by the stains.
    """
    with mpl.rc_context(STYLE):
        figure, place = new_figure(75, 95.0)
        for index, (patient, rows) in enumerate(frame.groupby("patient", sort=True)):
            place.plot(rows[first], rows[second], MARKERS[index // 5 % 5], color=COLOURS[index % 5], markersize=4,
                       linestyle="", label=str(patient) if index < 12 else None)  # fmt: skip
        place.set_xlim(left=0)
        place.set_ylim(bottom=0)
        place.grid()
        place.set_xlabel(f"{first}: cells per mm² inside")
        place.set_ylabel(f"{second}: cells per mm² inside")
        place.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return figure
