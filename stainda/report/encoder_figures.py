"""Encoders by how far their features tell classes before they tell centre and stain."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stainda.report.figure_registry import register_table
from stainda.report.figures import BLUE, INK, STYLE, new_figure
from stainda.report.labels import row_mm
from stainda.report.run import LoadedRun
from stainda.report.summary_text import listed
from stainda.report.tables import PageTable, decimal, number, text
from stainda.run_directory.result_tables import ENCODERS

CAPTION = (
    "Robustness index of encoders (PathoROB, arXiv 2507.17845): of the neighbours of a patch that share its class or "
    "its group alone, the share that has the class (1: features are of tissue, 0: of the group). Performance drop: "
    "what a classifier on the features loses where class and group go together in training."
)


_LABEL = 0.22
"""Room of a number next to a bar, on the axis of the index."""


@register_table("encoders", rotations="one")
def encoders(run: LoadedRun) -> PageTable | None:
    """One row per encoder and kind of group; nothing where none were compared."""
    frame = run.tables[ENCODERS.path]
    if frame.empty:
        return None
    shown = [
        [
            text(str(row["encoder"])), text(str(row["start"])), text(str(row["against"])),
            number(row["robustness_index"], 2), number(row["chance"], 2), number(row["balanced_accuracy"], 2),
            text(_percent(row["performance_drop"])), number(row["n_patches"], 0), number(row["n_patients"], 0),
        ]
        for row in frame.to_dict("records")
    ]  # fmt: skip
    columns = (
        "Encoder", "Start", "Against", "Robustness index", "by chance", "Class reported", "Performance drop", "Patches",
        "Patients",
    )  # fmt: skip
    note = (
        "Annotations of all domains were read for it, those of targets too: an encoder that is chosen by this table "
        "has seen them."
    )
    return PageTable("encoders", CAPTION, columns, shown, frame, note=note)


def robustness_figure(frame: pd.DataFrame) -> Figure:
    """The index of every encoder (rows of ``encoders/robustness.csv``), a panel per kind of group; upright lines are
    what chance gives."""
    with mpl.rc_context(STYLE):
        kinds, names = list(dict.fromkeys(frame["against"])), list(dict.fromkeys(frame["encoder"]))
        figure, axes = new_figure(
            16 + row_mm(names, 5) * len(names), 85 * len(kinds), ncols=len(kinds), sharey=True, squeeze=False
        )
        for place, kind in zip(axes.flat, kinds, strict=True):
            rows = frame[frame["against"] == kind].set_index("encoder")
            for y, name in enumerate(names):
                index, chance = (float(rows[column].get(name, np.nan)) for column in ("robustness_index", "chance"))
                if np.isfinite(index):
                    place.barh(y, index, height=0.6, color=BLUE)
                if np.isfinite(chance):
                    place.plot([chance] * 2, [y - 0.4, y + 0.4], color=INK, linewidth=1.2)
                known = decimal(index) if np.isfinite(index) else "not known"
                end = index if np.isfinite(index) else 0.0
                if end - 0.03 < chance < end + _LABEL:  # the line of chance would cross the number
                    end = max(end, chance)
                place.text(end + 0.03, y, known, va="center", color=INK, fontsize=7)
            place.set_xlim(0, 1 + _LABEL)
            place.set_xticks([0, 0.25, 0.5, 0.75, 1])
            place.spines["bottom"].set_bounds(0, 1)
            place.set_title(f"class against {kind}", fontsize=8)
        axes.flat[0].set_yticks(range(len(names)), names)
        axes.flat[0].invert_yaxis()
        figure.supxlabel("robustness index (upright line: by chance)", fontsize=8)
        return figure


def described(frame: pd.DataFrame) -> str:
    """The most robust encoder against each kind of group, in a sentence; empty where no index is known."""
    highest = []
    for kind, rows in frame[frame["robustness_index"].notna()].groupby("against", sort=False):
        best = rows.loc[rows["robustness_index"].idxmax()]
        highest.append(f"{best['encoder']} against {kind} ({decimal(best['robustness_index'])})")
    return f"highest robustness index: {listed(highest)}" if highest else ""


def _percent(share: object) -> str:
    value = float(share)  # type: ignore[arg-type]
    return f"{100 * value:+.1f} %" if np.isfinite(value) else "–"
