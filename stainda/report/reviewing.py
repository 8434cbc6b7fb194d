"""What people decided about propagated annotations (``stainda review``), as the last run honoured it."""

from __future__ import annotations

import pandas as pd

from stainda.report.figure_registry import register_table
from stainda.report.run import LoadedRun
from stainda.report.summary_text import count, listed
from stainda.report.tables import PageTable, plain_table
from stainda.run_directory.tables import APPLIED

DECISIONS = {
    "accept": "accepted", "nudge": "moved", "redraw": "redrawn", "reject": "rejected", "unsure": "cannot tell",
}  # fmt: skip
"""Decisions as the page names them, in the order of its columns; see docs/howto/review.md."""


def review_words(run: LoadedRun) -> str:
    """How many propagated annotations were looked at, by whom; empty where none was."""
    frame = run.tables[APPLIED.path]
    if frame.empty:
        return ""
    stale = int(frame["status"].eq("stale").sum())
    who = sorted({name for name in frame["reviewer"] if name})
    total = f" of {len(run.propagation)} propagated annotations" if len(run.propagation) else ""
    text = f"{len(frame)}{total} {'was' if len(frame) == 1 else 'were'} reviewed"
    text += f" by {listed(who) if len(who) <= 4 else count(len(who), 'person')}" if who else ""
    if stale:
        return f"{text}. {len(frame) - stale} decisions hold, {stale} did not any more and changed nothing."
    return f"{text}; all these decisions hold."


@register_table("review")
def review_table(run: LoadedRun) -> PageTable | None:
    """Decisions by target stain and class, and how many of them no longer hold."""
    frame = run.tables[APPLIED.path]
    if frame.empty:
        return None
    stain = run.cohort.drop_duplicates("slide").set_index("slide")["stain"] if len(run.cohort) else pd.Series(dtype=str)
    rows = frame.assign(stain=frame["target"].map(stain).fillna(frame["target"]))
    applied, groups = rows["status"].eq("applied"), ["stain", "class"]
    table = rows.groupby(groups, sort=False).agg(sections=("target", "nunique"), reviewed=("id", "size"))
    for decision in DECISIONS:
        mine = rows[applied & rows["decision"].eq(decision)]
        table[decision] = mine.groupby(groups, sort=False).size().reindex(table.index, fill_value=0)
    table["stale"] = rows[~applied].groupby(groups, sort=False).size().reindex(table.index, fill_value=0)
    titles = {"stain": "Onto stain", "class": "Class", "sections": "Sections", "reviewed": "Reviewed"}
    titles |= {decision: words.capitalize() for decision, words in DECISIONS.items()} | {"stale": "Stale"}
    note = (
        "Accepted, moved and redrawn outlines train with confidence 1; rejected ones are background; the pixels of "
        "those that nobody could tell are ignored. Stale: the annotation or its registration changed after the review, "
        "so the decision was not applied."
    )
    digits = dict.fromkeys([name for name in titles if name not in groups], 0)
    return plain_table("review", "Decisions on propagated annotations.", table.reset_index(), titles, digits, note)
