"""Sections pooled to patients and groups: measures, and the comparison of groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.microenvironment.compartments import count_rate, pooled_compartments
from stainda.microenvironment.groups import compare
from stainda.microenvironment.measure import SectionMeasures, ZoneDensities, pooled_density
from stainda.microenvironment.rates import MM2
from stainda.microenvironment.table_values import Row, known


def by(measured: Sequence[SectionMeasures], key: Callable[[SectionMeasures], str]) -> dict[str, list[SectionMeasures]]:
    groups: dict[str, list[SectionMeasures]] = {}
    for section in measured:
        groups.setdefault(key(section), []).append(section)
    return groups


def patient_rows(
    measured: Sequence[SectionMeasures], config: MicroenvironmentConfig, rng: np.random.Generator
) -> list[Row]:
    """Rows of the measures of the patients, of the sections of one stain."""
    rows: list[Row] = []
    for patient, sections in by(measured, lambda section: section.data.section.patient).items():
        about = {
            "patient": patient, "group": sections[0].data.section.group, "stain": sections[0].data.section.stain,
            "sections": len(sections), "structures": sum(len(section.data.structures) for section in sections),
        }  # fmt: skip
        zones = sections[0].zones
        over = pooled_density([section.each for section in sections], zones, config, rng)
        bias = {
            name: {"error_bias": known(over.bias[z], 4), "corrected": known(over.corrected[z])}
            for z, name in enumerate(zones.names)
        }
        for name, (value, low, high) in _measures(sections, over, config).items():
            numbers = {"value": known(value), "low": known(low), "high": known(high)}
            rows.append({**about, "measure": name, **numbers, **bias.get(name, {})})
    return rows


def _measures(
    sections: Sequence[SectionMeasures], over: ZoneDensities, config: MicroenvironmentConfig
) -> dict[str, tuple[float, ...]]:
    zones = sections[0].zones
    none = float("nan")
    measures: dict[str, tuple[float, ...]] = {
        name: (over.value[z], over.low[z], over.high[z]) for z, name in enumerate(zones.names)
    }  # fmt: skip
    counts = np.sum([section.pooled_counts for section in sections], axis=0)
    areas = np.sum([section.pooled_areas for section in sections], axis=0)
    measures["beyond"] = count_rate(counts[-1], areas[-1], config.level)
    measures["tissue"] = count_rate(counts.sum(), areas.sum(), config.level)
    near = [counts[:-1].sum(), areas[:-1].sum()]
    far = measures["beyond"][0]
    ratio = near[0] * MM2 / near[1] / far if near[1] > 0 and far > 0 else none
    measures["enrichment"] = (ratio, none, none)
    structures = sum(len(section.data.structures) for section in sections)
    inside = sum(float(section.each.counts[:, 0].sum()) for section in sections)
    measures["cells per structure"] = (inside / structures if structures else none, none, none)
    away = np.concatenate([section.each.nearest_um for section in sections])
    measures["nearest"] = (float(np.nanmedian(away)) if np.isfinite(away).any() else none, none, none)
    stained = np.array([section.positive for section in sections])
    sizes = np.array([section.data.window.area for section in sections])
    if np.isfinite(stained).all() and sizes.sum() > 0:
        measures["stained"] = (float(stained @ sizes / sizes.sum()), none, none)
    measures |= pooled_compartments([section.compartments for section in sections], config.level)
    return measures


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
    differences = compare(values, groups, rng, resamples=config.resamples, level=config.level)
    return [
        {
            "stain": stain, **{key: value for key, value in vars(difference).items() if isinstance(value, str | int)},
            **{key: known(value, 6) for key, value in vars(difference).items() if isinstance(value, float)},
        }
        for difference in differences
    ]  # fmt: skip
