"""Sections pooled to patients, groups and all: measures, curves and the comparison of groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.microenvironment.envelopes import envelope
from stainda.microenvironment.groups import compare
from stainda.microenvironment.measure import Profile, SectionMeasures, pooled_density
from stainda.microenvironment.rates import MM2, poisson_interval
from stainda.microenvironment.rows import Row, known

Floats = npt.NDArray[np.float64]


def by(found: Sequence[SectionMeasures], key: Callable[[SectionMeasures], str]) -> dict[str, list[SectionMeasures]]:
    groups: dict[str, list[SectionMeasures]] = {}
    for one in found:
        groups.setdefault(key(one), []).append(one)
    return groups


def patient_rows(
    found: Sequence[SectionMeasures], config: MicroenvironmentConfig, rng: np.random.Generator
) -> list[Row]:
    """Rows of the measures of the patients, of the sections of one stain."""
    rows: list[Row] = []
    for patient, sections in by(found, lambda one: one.data.section.patient).items():
        about = {
            "patient": patient, "group": sections[0].data.section.group, "stain": sections[0].data.section.stain,
            "sections": len(sections), "structures": sum(len(one.data.structures) for one in sections),
        }  # fmt: skip
        for name, (value, low, high) in _measures(sections, config, rng).items():
            rows.append({**about, "measure": name, "value": known(value), "low": known(low), "high": known(high)})
    return rows


def _measures(
    sections: Sequence[SectionMeasures], config: MicroenvironmentConfig, rng: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    zones = sections[0].zones
    none = float("nan")
    over = pooled_density([one.each for one in sections], zones, config, rng)
    found = {
        name: (over.value[z], over.low[z], over.high[z]) for z, name in enumerate(zones.names)
    }  # fmt: skip
    counts = np.sum([one.pooled_counts for one in sections], axis=0)
    areas = np.sum([one.pooled_areas for one in sections], axis=0)
    found["beyond"] = _rate(counts[-1], areas[-1], config.level)
    found["tissue"] = _rate(counts.sum(), areas.sum(), config.level)
    near = [counts[:-1].sum(), areas[:-1].sum()]
    far = found["beyond"][0]
    ratio = near[0] * MM2 / near[1] / far if near[1] > 0 and far > 0 else none
    found["enrichment"] = (ratio, none, none)
    structures = sum(len(one.data.structures) for one in sections)
    inside = sum(float(one.each.counts[:, 0].sum()) for one in sections)
    found["cells per structure"] = (inside / structures if structures else none, none, none)
    away = np.concatenate([one.each.nearest_um for one in sections])
    found["nearest"] = (float(np.nanmedian(away)) if np.isfinite(away).any() else none, none, none)
    stained = np.array([one.positive for one in sections])
    sizes = np.array([one.data.window.area for one in sections])
    if np.isfinite(stained).all() and sizes.sum() > 0:
        found["stained"] = (float(stained @ sizes / sizes.sum()), none, none)
    return found


def _rate(count: float, area: float, level: float) -> tuple[float, float, float]:
    low, high = poisson_interval(np.array([count]), np.array([area]), level)
    return (count * MM2 / area if area > 0 else float("nan"), float(low[0]), float(high[0]))


def group_rows(
    patients: Sequence[Mapping[str, Any]], config: MicroenvironmentConfig, rng: np.random.Generator
) -> list[Row]:
    """Rows of groups.csv from those of patients.csv of one stain."""
    values: dict[str, dict[str, float]] = {}
    groups: dict[str, str] = {}
    for row in patients:
        groups[row["patient"]] = row["group"]
        if row["value"] is not None:
            values.setdefault(row["measure"], {})[row["patient"]] = float(row["value"])
    stain = patients[0]["stain"] if patients else ""
    found = compare(values, groups, rng, resamples=config.resamples, level=config.level)
    return [
        {
            "stain": stain, **{key: value for key, value in vars(one).items() if isinstance(value, str | int)},
            **{key: known(value, 6) for key, value in vars(one).items() if isinstance(value, float)},
        }
        for one in found
    ]  # fmt: skip


def curve_rows(found: Sequence[SectionMeasures], config: MicroenvironmentConfig) -> list[Row]:
    """Rows of curves.csv of the sections of one stain: density by distance of slides, patients, groups and all; L and g
    of slides."""
    rows: list[Row] = []
    scopes = {
        "slide": by(found, lambda one: one.data.section.slide),
        "patient": by(found, lambda one: one.data.section.patient),
        "group": {name: some for name, some in by(found, lambda one: one.data.section.group).items() if name},
        "all": {"all": list(found)} if found else {},
    }
    stain = found[0].data.section.stain if found else ""
    for scope, parts in scopes.items():
        for name, sections in parts.items():
            about = {"scope": scope, "name": name, "stain": stain}
            rows += [{**about, **row} for row in _density_curve([one.profile for one in sections], config.level)]
    for one in found:
        about = {"scope": "slide", "name": one.data.section.slide, "stain": stain}
        pairs = one.cell_pairs
        for function, values in (("L", pairs.l - pairs.r), ("g", pairs.g)):
            rows += [
                {**about, "function": function, "from_um": None, "to_um": float(r), "value": known(value, 4)}
                for r, value in zip(pairs.r, values, strict=True)
            ]
    return rows


def _density_curve(profiles: Sequence[Profile], level: float) -> list[Row]:
    """Cells of all sections over those expected at equal density, with the same of every round of shifts."""
    zones = profiles[0].zones
    rounds = min(len(one.simulated) for one in profiles)
    observed = _ratio(sum(one.cells for one in profiles), sum(one.expected for one in profiles))
    made = _ratio(
        sum(one.simulated[:rounds] for one in profiles), sum(one.simulated_expected[:rounds] for one in profiles)
    )
    none = np.full(len(zones) + 1, np.nan)
    low, high, p = none, none, float("nan")
    if rounds:
        around = envelope(observed, made, level)
        low, high, p = around.low, around.high, around.p
    weight = np.array([one.cells.sum() for one in profiles])
    rate = float(weight @ [one.density for one in profiles] / weight.sum()) if weight.sum() else float("nan")
    bounds = [*zones.bounds, (zones.reach, None)]
    return [
        {
            "function": "density", "from_um": bounds[k][0], "to_um": bounds[k][1], "value": known(observed[k], 4),
            "low": known(low[k], 4), "high": known(high[k], 4), "per_mm2": known(observed[k] * rate, 2),
            "p": known(p, 4), "simulations": rounds,
        }
        for k in range(len(zones) + 1)
    ]  # fmt: skip


def _ratio(cells: Any, expected: Any) -> Floats:
    top, bottom = np.asarray(cells, float), np.asarray(expected, float)
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
