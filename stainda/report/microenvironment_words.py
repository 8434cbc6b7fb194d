"""What the tables of cells and structures say, in sentences: for the section of the page, and for its answer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stainda.report.run import LoadedRun
from stainda.report.summary_text import Sentence, count
from stainda.run_directory import microenvironment_tables as tables

LEAST_BIAS = 0.03
"""Share of a density from which the page speaks of the bias of the registration error."""
NULLS = {"shift": "toroidal shifts", "relabel": "random relabelling", "csr": "complete spatial randomness"}
NEAR = "0-"
"""What the name of the first ring begins with."""
LEVEL = 0.05
"""q from which on groups are said to differ."""


def microenvironment_answer(run: LoadedRun) -> list[Sentence]:
    """What a study that asks for cells about structures answers: the first ring in the groups, each stain.

    Without groups, whether the density depends on the distance. Empty where the study does not ask for it, or nothing
    was measured.
    """
    folder = tables.INPUTS.at(run.folder).parent
    if run.study.microenvironment is None or not tables.SLIDES.at(run.folder).is_file():
        return []
    groups, curves = tables.GROUPS.read(folder), tables.CURVES.read(folder)
    if len(groups):
        return _first_rings(groups, run.study.microenvironment.level)
    of_all = curves[(curves["scope"] == "all") & (curves["function"] == "density")]
    return [
        Sentence(text)
        for stain, rows in of_all.groupby("stain", sort=False)
        for text in _tests(str(stain), rows[rows["null"] == rows["null"].iloc[0]])
    ]


def _first_rings(groups: pd.DataFrame, level: float) -> list[Sentence]:
    """Of each stain and pair of groups the densities of the first ring, and in how many measures the groups differ."""
    sentences = []
    for (stain, first, second), rows in groups.groupby(["stain", "first", "second"], sort=False):
        near = next((row for row in rows.to_dict("records") if str(row["measure"]).startswith(NEAR)), None)
        if near is None:
            continue
        tested = rows[np.isfinite(rows["q"])]
        text = (
            f"{stain}: {near['mean_first']:.3g} cells per mm² in the ring {_zone(near['measure'])} about structures in "
            f"{first} and {near['mean_second']:.3g} in {second}"
        )
        numbers = f"{near['n_first']:.0f} and {near['n_second']:.0f} patients"
        if not np.isfinite(near["q"]):
            sentences.append(Sentence(f"{text}; {numbers} are too few for a test.", "none"))
            continue
        if np.isfinite(near["low"]):
            numbers = (
                f"{second} less {first} {near['difference']:+.3g}, {level:.0%} interval {near['low']:+.3g} to "
                f"{near['high']:+.3g}, q = {near['q']:.3f}; {numbers}"
            )
        shown = near["q"] < LEVEL
        text += f" ({numbers})." if shown else f"; no difference could be shown there ({numbers})."
        differ = int((tested["q"] < LEVEL).sum())
        text += f" The groups differ in {differ} of {len(tested)} measures." if differ else ""
        sentences.append(Sentence(text, "result" if shown else "none"))
    return sentences


def section_words(run: LoadedRun, read: dict[str, pd.DataFrame]) -> list[str]:
    """Findings and cautions as sentences."""
    slides, groups, curves, left = (read[table.path] for table in (tables.SLIDES, tables.GROUPS, tables.CURVES,
                                                               tables.LEFT_OUT))  # fmt: skip
    sentences = []
    for stain, rows in slides.groupby("stain", sort=False):
        number = int(rows.drop_duplicates("slide")["structures"].sum())
        sentences.append(
            f"{stain}: {count(int(rows['cells'].sum()), 'cell')} and {count(number, 'structure')} on "
            f"{count(rows['slide'].nunique(), 'section')} of {count(rows['patient'].nunique(), 'patient')}. "
            + _origin(run, read[tables.STRUCTURES.path], stain)
        )
        sentences += _tests(stain, curves[(curves["stain"] == stain) & (curves["scope"] == "all")])
        sentences += _bias_words(str(stain), rows)
        thin = rows[rows["thin"] > 0]
        if len(thin):
            zones = ", ".join(_zone(zone) for zone in dict.fromkeys(thin["zone"]))
            error = rows["error_um"].max()
            sentences.append(
                f"{stain}: the zones {zones} are thinner than the registration error of some structures (sections' "
                f"medians up to {error:.0f} µm): what lies in one of them may belong to the next."
            )
    sentences += _group_words(groups)
    if len(left):
        parts = [count(int(rows["number"].sum()), str(what).removesuffix("s")) for what, rows in left.groupby("what")]
        sentences.append(
            f"Not measured: {', '.join(parts)}. The reasons are in the table of what stayed out, below. Cells about "
            "structures that were not found or not measured count as beyond."
        )
    return sentences


def _bias_words(stain: str, slides: pd.DataFrame) -> list[str]:
    """How much the registration error probably moves the densities, where that is not little."""
    known = slides[np.isfinite(slides["error_bias"]) & (slides["cells"] > 0)]
    parts = []
    for zone, rows in known.groupby("zone", sort=False):
        bias = float(np.average(rows["error_bias"], weights=rows["cells"]))
        if abs(bias) >= LEAST_BIAS:
            name = "inside" if zone == "inside" else f"in the ring {_zone(str(zone))}"
            parts.append(f"{name} about {abs(bias):.0%} too {'high' if bias > 0 else 'low'}")
    if not parts:
        return []
    error = slides.drop_duplicates("slide")["error_um"].median()
    return [
        f"{stain}: the registration error (median {error:.1f} µm) makes densities {', '.join(parts)}, at the least: so "
        "much they change when the outlines are displaced once more by it. Values without this are in the column "
        "corrected of patients.csv; outlines drawn on the stained section itself have no such error."
    ]


def _origin(run: LoadedRun, structures: pd.DataFrame, stain: str) -> str:
    """Where the outlines on the sections of a stain come from, and how exactly they are placed."""
    mine = structures[structures["stain"] == stain]
    moved = mine[mine["source"] != mine["slide"]]
    detected = "found by the trained detector" if len(mine) and (mine["outline"] == "detected").all() else ""
    if not len(moved):
        return f"The outlines are of these sections themselves{', ' if detected else ''}{detected}."
    stains = run.cohort.set_index("slide")["stain"].to_dict() if "slide" in run.cohort else {}
    sources = " and ".join(sorted({str(stains.get(source, source)) for source in moved["source"]}))
    how = f"{detected} in {sources} and propagated" if detected else f"propagated from {sources}"
    were = "was" if len(moved) == 1 else "were"
    error = f"placed to within {moved['error_um'].median():.0f} µm (median)"
    return f"{count(len(moved), 'outline')} {were} {how}, {error}."


def _group_words(groups: pd.DataFrame) -> list[str]:
    """One sentence for each stain and pair of groups."""
    sentences = []
    for (stain, first, second), rows in groups.groupby(["stain", "first", "second"], sort=False):
        tested = rows[np.isfinite(rows["q"])]
        clear = tested[tested["q"] < LEVEL]
        if not len(tested):
            sentences.append(f"{stain}: too few patients in {first} or {second} for a test.")
        elif not len(clear):
            sentences.append(f"{stain}: no difference between {first} and {second} could be shown in any measure.")
        else:
            values = ", ".join(
                f"{measure_title(row['measure'])} {row['mean_first']:.3g} and {row['mean_second']:.3g}"
                for row in clear.to_dict("records")
            )
            sentences.append(
                f"{stain}: {first} and {second} differ (q at most {clear['q'].max():.3f}; means of patients, cells per "
                f"mm² where no other unit is named): {values}."
            )
    return sentences


ANSWERS = {
    ("density", "shift"): (
        "the density of cells depends on the distance to a structure",
        "it could not be shown that the density of cells depends on the distance to a structure",
    ),
    ("density", "relabel"): (
        "the cells that count lie otherwise about structures than the other cells do",
        "it could not be shown that the cells that count lie otherwise about structures than the other cells do",
    ),
    ("density", "csr"): (
        "cells are not scattered evenly about structures (clustered cells alone can be the reason)",
        "cells could be scattered evenly about structures",
    ),
    ("L", "relabel"): (
        "the cells that count are {} each other than any cells",
        "it could not be shown that the cells that count are clustered more than all cells",
    ),
    ("L", "csr"): ("cells are {} each other than by chance", "cells could be scattered independently of each other"),
}
"""What each curve answers under each null hypothesis: where it is rejected, and where not."""


def _tests(stain: str, curves: pd.DataFrame) -> list[str]:
    """The answers of the tests of all patients together."""
    sentences = []
    for (function, null), rows in curves.groupby(["function", "null"], sort=False):
        p = rows["p"].iloc[0]
        if (function, null) in ANSWERS and np.isfinite(p):
            rejected, kept = ANSWERS[function, null]
            above = (rows["value"] - (rows["low"] + rows["high"]) / 2).mean() > 0
            sentence = rejected.format("nearer to" if above else "farther from") if p <= 0.05 else kept
            sentences.append(f"{stain}: {sentence} (p = {p:.3f}, {NULLS[null]}).")
    return sentences


def measure_title(measure: str) -> str:
    """A measure of the tables as the page calls it, with its unit."""
    names = {"nearest": "nearest cell, µm", "stained": "stained share", "enrichment": "near over beyond"}
    return names.get(measure, _zone(measure))


def _zone(name: str) -> str:
    return f"{name} µm" if name[0].isdigit() else name
