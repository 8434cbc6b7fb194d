"""Curves over distance with their envelopes: of sections, and pooled to patients, groups and all.

* ``density``: cells by distance from the outline of the nearest structure, over what equal density would give.
* ``cross_g``, ``cross_L``, ``cross_K``: cells about the centres of structures (pair correlation; L less r; K).
* ``g``, ``L``, ``K``: cells about cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import shapely

from stainda.config.microenvironment import MicroenvironmentConfig, NullModel
from stainda.evaluation.bootstrap import percentile_interval, resampling_weights
from stainda.microenvironment.envelopes import envelope
from stainda.microenvironment.patterns import CellPairs, k_function, l_function, random_pairs, relabelled_pairs, thinned
from stainda.microenvironment.raster_fields import RasterField, StepCounts
from stainda.microenvironment.rates import MM2
from stainda.microenvironment.section import SectionData
from stainda.microenvironment.table_values import Row, known
from stainda.microenvironment.zones import Zones

Floats = npt.NDArray[np.float64]
Family = Literal["density", "cross", "cells"]
FUNCTIONS: dict[Family, dict[str, Callable[[Floats, Floats], Floats]]] = {
    "density": {"density": lambda g, _: g},
    "cross": {"cross_g": lambda g, _: g, "cross_L": l_function, "cross_K": k_function},
    "cells": {"g": lambda g, _: g, "L": l_function, "K": k_function},
}
"""Functions by family, each from the ratio of cells to those expected in steps up to distances."""
CELL_STEPS_UM = np.arange(10.0, 101.0, 10.0)
FEW_UNITS = 3
"""Sections of a patient, or patients, from which the pooled curve gets an interval."""


@dataclass(frozen=True, eq=False)
class SectionCurve:
    """Of one section.

    Attributes:
        null: the null hypothesis that was simulated; empty: none.
        low, high: (k,) distances from and to; ``nan`` inside and beyond.
        observed, simulated: counts (k,) and (s, k).
        cells: on the section. per_mm2: their density.
    """

    family: Family
    null: str
    low: Floats
    high: Floats
    observed: StepCounts
    simulated: StepCounts
    cells: int
    per_mm2: float


def section_curves(data: SectionData, config: MicroenvironmentConfig, rng: np.random.Generator) -> list[SectionCurve]:
    """All curves of a section, under every null hypothesis of the settings."""
    area = data.window.area
    about = (len(data.xy), len(data.xy) / area * MM2 if area else float("nan"))
    edges = np.arange(config.profile_step_um, config.profile_um + 1e-9, config.profile_step_um)
    zones = Zones.of_rings(tuple(edges.tolist()))
    field = RasterField.of_zones(data.structures.outlines, zones, data.window)
    low, high = np.array([(a, b) for a, b in (*zones.bounds, (zones.reach, None))], float).T
    curves = [
        SectionCurve(
            "density", null, low, high, field.observed(data.xy), _simulated(field, null, data, config, rng), *about
        )
        for null in config.null_models
    ]
    far = np.arange(config.profile_step_um, 2 * config.profile_um + 1e-9, config.profile_step_um)
    centres = shapely.get_coordinates(shapely.centroid(data.structures.outlines)).reshape(-1, 2)
    field = RasterField.about_centres(centres, far, data.window)
    low = np.concatenate([[0.0], far[:-1]])
    curves += [
        SectionCurve(
            "cross", null, low, far, field.observed(data.xy), _simulated(field, null, data, config, rng), *about
        )
        for null in config.null_models
    ]
    return curves + _cell_curves(data, config, rng, about)


def _simulated(
    field: RasterField, null: NullModel, data: SectionData, config: MicroenvironmentConfig, rng: np.random.Generator
) -> StepCounts:
    return field.simulated(null, data.xy, config.simulations, rng, others=data.others)


def _cell_curves(
    data: SectionData, config: MicroenvironmentConfig, rng: np.random.Generator, about: tuple[int, float]
) -> list[SectionCurve]:
    """Cells about cells. A shift moves them together, so it says nothing of them: there is no envelope then."""
    r = CELL_STEPS_UM
    low = np.concatenate([[0.0], r[:-1]])
    cells = thinned(data.xy, rng)
    observed = CellPairs.of(cells, data.window, r).counts()
    none = StepCounts(np.zeros((0, len(r))), np.zeros((0, len(r))))
    curves = []
    if "csr" in config.null_models:
        drawn = random_pairs(len(cells), data.window, r, config.simulations, rng)
        curves.append(SectionCurve("cells", "csr", low, r, observed, drawn, *about))
    if "relabel" in config.null_models:
        everything = thinned(np.concatenate([data.xy, data.others]), rng)
        count = round(len(everything) * len(data.xy) / max(len(data.xy) + len(data.others), 1))
        drawn = relabelled_pairs(CellPairs.of(everything, data.window, r), count, config.simulations, rng)
        curves.append(SectionCurve("cells", "relabel", low, r, observed, drawn, *about))
    return curves or [SectionCurve("cells", "", low, r, observed, none, *about)]


@dataclass(frozen=True, eq=False)
class MeasuredCurves:
    """The curves of one section, with what it is pooled by."""

    slide: str
    patient: str
    group: str
    stain: str
    curves: Sequence[SectionCurve]


def _within(scope: str, name: str) -> Callable[[MeasuredCurves], bool]:
    return lambda curves: getattr(curves, scope) == name


def curve_rows(
    sections: Sequence[MeasuredCurves], config: MicroenvironmentConfig, rng: np.random.Generator
) -> list[Row]:
    """Rows of curves.csv of the sections of one stain."""
    scopes: list[tuple[str, str, Callable[[MeasuredCurves], bool], str]] = []
    for scope in ("slide", "patient", "group"):
        names = dict.fromkeys(str(getattr(section, scope)) for section in sections)
        for name in (name for name in names if name):
            scopes.append((scope, name, _within(scope, name), "slide" if scope == "patient" else "patient"))
    scopes.append(("all", "all", lambda _: True, "patient"))
    rows: list[Row] = []
    for scope, name, belongs, unit in scopes:
        members = [section for section in sections if belongs(section)]
        units = [str(getattr(section, unit)) for section in members]
        for place in range(len(members[0].curves)):
            curves = [section.curves[place] for section in members]
            rows += [
                {"scope": scope, "name": name, "stain": members[0].stain, **row}
                for row in _pooled(curves, units, config, rng)
            ]
    return rows


def _pooled(
    curves: Sequence[SectionCurve], units: Sequence[str], config: MicroenvironmentConfig, rng: np.random.Generator
) -> list[Row]:
    """Cells of all sections over those expected, with the same of every round of simulations.

    ``ci_low`` and ``ci_high`` are the bootstrap interval of the observed curve when ``units`` (the patients; of one
    patient, the sections) are drawn with replacement.
    """
    first = curves[0]
    rounds = min(len(curve.simulated.found) for curve in curves)
    each = StepCounts.stacked([curve.observed for curve in curves], len(first.high))
    observed = each.weighted(np.ones(len(curves)))
    simulated = StepCounts(
        np.sum([curve.simulated.found[:rounds] for curve in curves], axis=0),
        np.sum([curve.simulated.expected[:rounds] for curve in curves], axis=0),
    )
    resampled = _resampled(each, units, config.resamples, rng)
    number = np.array([curve.cells for curve in curves], float)
    rate = float(number @ [curve.per_mm2 for curve in curves] / number.sum()) if number.sum() else float("nan")
    steps = len(first.high)
    none = np.full(steps, np.nan)
    rows: list[Row] = []
    for function, values in FUNCTIONS[first.family].items():
        low, high, p, ci = none, none, float("nan"), (none, none)
        value = values(observed.ratio, first.high)
        if rounds:
            around = envelope(value, values(simulated.ratio, first.high), config.level)
            low, high, p = around.low, around.high, around.p
        if resampled is not None:
            ci = percentile_interval(values(resampled.ratio, first.high), config.level)
        rows += [
            {
                "function": function, "null": first.null, "from_um": known(first.low[k], 2),
                "to_um": known(first.high[k], 2), "value": known(value[k], 4), "low": known(low[k], 4),
                "high": known(high[k], 4), "ci_low": known(ci[0][k], 4), "ci_high": known(ci[1][k], 4),
                "per_mm2": known(value[k] * rate, 2) if function == "density" else None,
                "p": known(p, 4), "simulations": rounds,
            }
            for k in range(steps)
        ]  # fmt: skip
    return rows


def _resampled(each: StepCounts, units: Sequence[str], resamples: int, rng: np.random.Generator) -> StepCounts | None:
    """Sums of the counts of each section over units drawn with replacement; ``None`` of too few."""
    names = list(dict.fromkeys(units))
    if len(names) < FEW_UNITS:
        return None
    member = np.array([[unit == name for unit in units] for name in names], float)
    return each.weighted(resampling_weights(len(names), resamples, rng) @ member)
