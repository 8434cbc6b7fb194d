"""The section of the page about cells and structures, from the tables of the run directory alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stainda.arrays import Array
from stainda.names import file_name
from stainda.report import microenvironment_figures as figures
from stainda.report.drawings import Drawing, draw
from stainda.report.figure_registry import Plot
from stainda.report.microenvironment_words import NEAR, NULLS, measure_title, section_words
from stainda.report.run import LoadedRun
from stainda.report.tables import PageTable, plain_table
from stainda.report.writer import Writer
from stainda.run_directory import microenvironment_tables as tables
from stainda.run_directory.contents import THUMBNAIL

MOST_MAPS = 2
NOT_ZONES = ("tissue", "enrichment", "cells per structure", "nearest", "stained")


@dataclass(frozen=True)
class MicroenvironmentSection:
    """What the section shows."""

    words: list[str]
    drawings: list[Drawing]
    tables: list[PageTable]
    methods: str
    more: list[PageTable] = field(default_factory=list)


def make_microenvironment(run: LoadedRun, write: Writer) -> MicroenvironmentSection:
    """Everything of the section; figures and tables are written under the report."""
    folder = tables.INPUTS.at(run.folder).parent
    read = {
        table.path: table.read(folder)
        for table in (tables.SLIDES, tables.PATIENTS, tables.GROUPS, tables.CURVES, tables.STRUCTURES, tables.LEFT_OUT)
    }
    slides, patients, groups, curves, structures, left = read.values()
    drawn: list[Drawing] = []
    for stain in dict.fromkeys(slides["stain"]):
        drawn += _of_stain(stain, slides, patients, groups, curves, write)
        drawn += _maps(run, stain, structures, write)
    drawn += _across(structures, write)
    shown = [write.table(table) for table in (_patient_table(patients), _group_table(groups)) if table is not None]
    more = [write.table(table) for table in (_slide_table(slides), _left_table(left)) if table is not None]
    methods = tables.METHODS.at(run.folder).read_text(encoding="utf-8").strip()
    return MicroenvironmentSection(
        section_words(run, read),
        drawn,
        [table for table in shown if table],
        methods,
        [table for table in more if table],
    )


def _of_stain(
    stain: str, slides: pd.DataFrame, patients: pd.DataFrame, groups: pd.DataFrame, curves: pd.DataFrame, write: Writer
) -> list[Drawing]:
    drawn = []
    mine = curves[
        (curves["stain"] == stain) & (curves["function"] == "density") & curves["scope"].isin(["all", "group"])
    ]
    key = file_name(stain)
    if len(mine):
        mine = mine[mine["null"] == mine["null"].iloc[0]]  # the first null hypothesis is the one that is shown
        null = NULLS[mine["null"].iloc[0]]
        drawn.append(_draw(
            write, Plot(
                figures.density_by_distance(mine), mine,
                f"{stain}: density of cells by distance, relative to what equal density would give. Grey: {null}; p of "
                "the whole curve; bars: intervals over patients.", f"Density of cells by distance, {stain}",
            ), f"microenvironment_distance_{key}",
        ))  # fmt: skip
        pairs = _shown_pairs(curves[(curves["stain"] == stain) & (curves["scope"] == "all")])
        drawn.append(_draw(
            write, Plot(
                figures.pair_functions(pairs), pairs,
                f"{stain}: pair correlation g (1: as often as by chance), L less r (0: by chance) and Ripley's K of "
                f"cells about centres of structures (left), and about each other (right). {_greys(pairs)}dashed: "
                "chance; bars: intervals over patients.", f"Cells about structures and about each other, {stain}",
            ), f"microenvironment_pairs_{key}",
        ))  # fmt: skip
    of_patients = patients[(patients["stain"] == stain) & ~patients["measure"].isin(NOT_ZONES)]
    if len(of_patients):
        zones = list(dict.fromkeys(of_patients["measure"]))
        drawn.append(_draw(
            write, Plot(
                figures.patient_strip(of_patients, zones), of_patients,
                f"{stain}: cells per mm² of every patient. Intervals: bootstrap over structures with the error of "
                "their places; Poisson beyond.", f"Density by patient, {stain}",
            ), f"microenvironment_patients_{key}",
        ))  # fmt: skip
    tested = groups[(groups["stain"] == stain) & np.isfinite(groups["p"])] if len(groups) else groups
    for (first, second), rows in tested.groupby(["first", "second"], sort=False) if len(tested) else []:
        figure = figures.group_differences(rows, [measure_title(measure) for measure in rows["measure"]])
        drawn.append(_draw(
            write, Plot(
                figure, rows, f"{stain}: {second} less {first}, with bootstrap-t intervals; q: permutation of "
                "patients, false discovery rate over measures.", f"Groups {first} and {second}, {stain}",
            ), f"microenvironment_groups_{key}_{file_name(first)}_{file_name(second)}",
        ))  # fmt: skip
    return drawn


def _greys(pairs: pd.DataFrame) -> str:
    """What the envelopes on the left and on the right are of."""
    nulls = pairs.drop_duplicates("function").set_index("function")["null"].to_dict()
    sides = [(side, nulls.get(function, "")) for side, function in (("left", "cross_g"), ("right", "g"))]
    named = ", ".join(f"{NULLS[null]} ({side})" for side, null in sides if null)
    return f"Grey: {named}; " if named else ""


def _shown_pairs(curves: pd.DataFrame) -> pd.DataFrame:
    """Rows of g and L, of each function those of the first null hypothesis."""
    first = curves.drop_duplicates("function").set_index("function")["null"]
    kept = curves["function"].isin(figures.PAIR_FUNCTIONS) & (curves["null"] == curves["function"].map(first))
    return curves[kept]


def _maps(run: LoadedRun, stain: str, structures: pd.DataFrame, write: Writer) -> list[Drawing]:
    """The sections with the lowest and the highest mean density on their thumbnails."""
    mine = structures[structures["stain"] == stain]
    mean = mine.groupby("slide")["density"].mean().sort_values(kind="stable")
    sizes = run.cohort.set_index("slide") if "slide" in run.cohort else pd.DataFrame()
    drawn = []
    for slide in list(dict.fromkeys([*mean.index[:1], *mean.index[-1:]]))[:MOST_MAPS]:
        thumbnail = THUMBNAIL.at(run.folder, slide=slide)
        if not thumbnail.is_file() or slide not in sizes.index:
            continue
        outlines, rates = _outlines(run.folder, slide)
        size = (float(sizes.loc[slide, "width"]), float(sizes.loc[slide, "height"]))
        cells = _points(run.folder, slide)
        frame = mine[mine["slide"] == slide]
        drawn.append(_draw(
            write, Plot(
                figures.on_section(thumbnail, size, outlines, rates, cells), frame,
                f"{slide}: structures coloured by cells per mm² in the first ring about them, and the cells (dots).",
                f"Map of {slide}",
            ), f"microenvironment_map_{file_name(slide)}",
        ))  # fmt: skip
    return drawn


def _outlines(folder: Path, slide: str) -> tuple[list[Array], Array]:
    """Of each structure the ring of its largest part, level-0 pixels, and its density in the first ring about it."""
    import shapely

    rings, rates = [], []
    for geometry, numbers in _shapes(tables.OUTLINES.at(folder, slide=slide)):
        parts = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
        if not parts:
            continue
        rings.append(np.asarray(max(parts, key=lambda part: part.area).exterior.coords)[:, :2])
        first = next((name for name in numbers if name.startswith(NEAR) and name.endswith(" per mm2")), "")
        rates.append(numbers.get(first, np.nan))
    return rings, np.array(rates, float)


def _points(folder: Path, slide: str) -> Array:
    """Places of the cells (n, 2), level-0 pixels."""
    shapes = _shapes(tables.CELLS.at(folder, slide=slide))
    return np.array([(geometry.x, geometry.y) for geometry, _ in shapes], float).reshape(-1, 2)


def _shapes(path: Path) -> list[tuple[Any, dict[str, float]]]:
    """Geometries in level-0 pixels, wherever the file counts from, and their measurements; none without a file."""
    from stainda.annotations import read_shapes

    if not path.is_file():
        return []
    shapes = read_shapes(path)
    return [
        (geometry, _measurements(properties))
        for geometry, properties in zip(shapes.geometry, shapes["properties"], strict=True)
    ]


def _measurements(properties: dict[str, Any]) -> dict[str, float]:
    values = properties.get("measurements") or {}
    return values if isinstance(values, dict) else {value["name"]: value["value"] for value in values}


def _across(structures: pd.DataFrame, write: Writer) -> list[Drawing]:
    """The same structures on the two stains with most of them."""
    wide = structures[structures["identity"] != ""].pivot_table(
        index=["patient", "block", "identity"], columns="stain", values="density", aggfunc="mean"
    )
    stains = wide.notna().sum().sort_values(ascending=False, kind="stable").index[:2].tolist()
    if len(stains) < 2:
        return []
    both = wide.dropna(subset=stains).reset_index()
    if len(both) < 3:
        return []
    first, second = stains
    r = both[[first, second]].corr(method="spearman").iloc[0, 1]
    plot = Plot(
        figures.across_stains(both, first, second), both,
        f"The same {len(both)} structures on {first} and {second}; Spearman's correlation {r:.2f}.",
        f"Structures on {first} and {second}",
    )  # fmt: skip
    return [_draw(write, plot, "microenvironment_across_stains")]


def _draw(write: Writer, plot: Plot, name: str) -> Drawing:
    if write.keep:
        write.plots.append((plot.alt, plot))
    return draw(plot.figure, name, plot.caption, plot.alt, plot.frame, write.out)


def _patient_table(patients: pd.DataFrame) -> PageTable | None:
    if not len(patients):
        return None
    wide = patients.pivot_table(index=["stain", "group", "patient"], columns="measure", values="value", sort=False)
    wide = wide.reset_index()
    titles = {"patient": "Patient", "group": "Group", "stain": "Stain"}
    if not (wide["group"] != "").any():
        titles.pop("group")
    digits = {name: 2 if name in ("enrichment", "cells per structure") else 3 if name == "stained" else 0 for name in
              dict.fromkeys(patients["measure"])}  # fmt: skip
    titles |= {name: measure_title(name) for name in digits}
    caption = "Patients: cells per mm² by zone, and other measures."
    return plain_table("microenvironment_patients", caption, wide, titles, digits)


def _group_table(groups: pd.DataFrame) -> PageTable | None:
    if not len(groups):
        return None
    titles = {
        "measure": "Measure", "stain": "Stain", "first": "First", "second": "Second",
        "n_first": "Patients of first", "n_second": "of second", "mean_first": "Mean of first",
        "mean_second": "Mean of second", "low": "Difference from", "high": "to", "p": "p", "q": "q", "note": "Note",
    }  # fmt: skip
    digits = {"n_first": 0, "n_second": 0, "mean_first": 2, "mean_second": 2, "low": 2, "high": 2, "p": 3, "q": 3}
    return plain_table("microenvironment_groups", "Groups of patients.", groups, titles, digits)


def _slide_table(slides: pd.DataFrame) -> PageTable:
    titles = {
        "slide": "Section", "zone": "Zone", "structures": "Structures", "cells": "Cells", "area_mm2": "mm²",
        "density": "Cells per mm²", "low": "from", "high": "to", "interval": "Interval", "error_um": "Error, µm",
        "thin": "Too thin for",
    }  # fmt: skip
    digits = {"structures": 0, "cells": 0, "area_mm2": 3, "density": 0, "low": 0, "high": 0, "error_um": 1, "thin": 0}
    note = "Too thin for: structures whose place is less exact than the zone is wide."
    return plain_table("microenvironment_sections", "Sections and zones.", slides, titles, digits, note)


def _left_table(left: pd.DataFrame) -> PageTable | None:
    if not len(left):
        return None
    titles = {"slide": "Section", "what": "What", "number": "How many", "reason": "Why"}
    return plain_table("microenvironment_left_out", "What stayed out.", left, titles, {"number": 0})
