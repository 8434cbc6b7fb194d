"""Measurements of one section: per structure and per zone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree

from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.evaluation.bootstrap import percentile_interval, resampling_weights
from stainda.microenvironment.compartments import CompartmentCount, count_compartments, stained_squares
from stainda.microenvironment.curves import SectionCurve, section_curves
from stainda.microenvironment.rates import MM2, poisson_interval, random_shifts, shifted_counts, uncertain_interval
from stainda.microenvironment.section import SectionData
from stainda.microenvironment.zones import (
    ObjectPairs,
    Zones,
    areas,
    counts,
    near_pairs,
    nearest,
    nearest_outside,
    pooled_areas,
    pooled_counts,
    table,
)

Floats = npt.NDArray[np.float64]
SURELY = 2.5
"""Registration errors by which cells are looked for beyond the last zone."""


@dataclass(frozen=True, eq=False)
class StructureMeasures:
    """Of m structures and k zones.

    Attributes:
        counts, areas: (m, k) cells and µm². low, high: (m, k) interval of the density, per mm².
        simulated: (draws, m, k) counts under displacements by the registration error; one draw where there is none.
        positive: (m, k) share of the zone's tissue that is stained, ``nan`` where pixels were not looked at.
        nearest_um: (m,) from the outline to the nearest cell of the section outside, ``nan`` without one.
        thin: (m, k) the zone is thinner than the error of the structure's place; of the inside, its radius counts.
    """

    counts: Floats
    areas: Floats
    low: Floats
    high: Floats
    simulated: Floats
    positive: Floats
    nearest_um: Floats
    thin: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SectionMeasures:
    """Of one section.

    Attributes:
        zones: of structures. each: of every structure.
        pooled_counts, pooled_areas: (k + 1,) by the nearest structure, the last being tissue beyond all zones.
        positive: share of the tissue that is stained. distance: (n,) of each cell to the nearest structure within
            reach, infinite beyond; which: (n,) its index, -1.
        curves: over distance, with simulations.
        compartments: cells and stain of the tissue and its compartments.
    """

    data: SectionData
    zones: Zones
    each: StructureMeasures
    pooled_counts: Floats
    pooled_areas: Floats
    positive: float
    distance: Floats
    which: npt.NDArray[np.int64]
    curves: list[SectionCurve]
    compartments: tuple[CompartmentCount, ...]


def measure_section(data: SectionData, config: MicroenvironmentConfig, rng: np.random.Generator) -> SectionMeasures:
    """Everything that is measured on one section."""
    zones = Zones.of_rings(config.rings_um)
    shapes = data.structures.outlines
    errors = data.structures.error_um
    tree = cKDTree(data.xy) if len(data.xy) else None
    reach = zones.reach + SURELY * float(errors.max(initial=0.0))
    pairs = near_pairs(shapes, data.xy, reach, tree)
    distance, which = nearest(pairs, len(data.xy))
    away = nearest_outside(shapes, data.xy, pairs, reach, tree)
    each = _structures(data, zones, pairs, config, rng, nearest_um=away)
    beyond = distance > zones.reach
    distance, which = np.where(beyond, np.inf, distance), np.where(beyond, -1, which)
    return SectionMeasures(
        data, zones, each, pooled_counts(distance, zones), pooled_areas(shapes, zones, data.window.shape),
        _stained(data), distance, which, section_curves(data, config, rng),
        count_compartments(data, config),
    )  # fmt: skip


def _structures(
    data: SectionData, zones: Zones, pairs: ObjectPairs, config: MicroenvironmentConfig, rng: np.random.Generator,
    *, nearest_um: Floats,
) -> StructureMeasures:  # fmt: skip
    shapes, errors = data.structures.outlines, data.structures.error_um
    number = len(shapes)
    area = areas(shapes, zones, data.window.shape)
    observed = counts(pairs, zones, number)
    low, high = poisson_interval(observed, area, config.level)
    simulated = observed[None]
    moved = np.flatnonzero(errors > 0)
    if len(moved):
        shifts = random_shifts(errors, config.draws, rng)
        simulated = shifted_counts(shapes, pairs, data.xy, zones, shifts)
        wide = uncertain_interval(simulated[:, moved], area[moved], rng, config.level)
        low[moved], high[moved] = wide
    widths = np.tile(zones.widths, (number, 1))
    widths[:, 0] = np.sqrt(shapely.area(shapes) / np.pi)
    thin = widths < errors[:, None]
    return StructureMeasures(observed, area, low, high, simulated, _positive(data, zones), nearest_um, thin)


def _stained(data: SectionData) -> float:
    grid = stained_squares(data)
    return float(grid[1].mean()) if grid is not None and len(grid[1]) else float("nan")


def _positive(data: SectionData, zones: Zones) -> Floats:
    number = len(data.structures)
    grid = stained_squares(data)
    if grid is None or not number:
        return np.full((number, len(zones)), np.nan)
    pairs = near_pairs(data.structures.outlines, grid[0], zones.reach)
    stained, looked = table(pairs, zones, number, grid[1]), table(pairs, zones, number)
    return np.divide(stained, looked, out=np.full(stained.shape, np.nan), where=looked > 0)


@dataclass(frozen=True, eq=False)
class ZoneDensities:
    """Densities (k,) per mm² over several structures, with an interval.

    Attributes:
        bias: (k,) share by which the error of the structures' places makes the density too high, as
            :func:`displacement_bias` has it.
        kind: ``bootstrap`` over structures, or ``poisson`` where there are too few of them.
    """

    value: Floats
    low: Floats
    high: Floats
    bias: Floats
    kind: str

    @property
    def corrected(self) -> Floats:
        """The value without that share."""
        return np.maximum(self.value * (1 - self.bias), 0.0)


FEW_STRUCTURES = 6


def pooled_density(
    measures: list[StructureMeasures], zones: Zones, config: MicroenvironmentConfig, rng: np.random.Generator
) -> ZoneDensities:
    """Cells of all structures over their area, by zone.

    Every replicate draws structures with replacement, and their counts from one of the displacements by the
    registration error: the interval contains the variation between structures and the error of their places.
    """
    none = np.full(len(zones), np.nan)
    number = sum(len(each.areas) for each in measures)
    if not number:
        return ZoneDensities(none, none, none, none, "none")
    area = np.concatenate([each.areas for each in measures])
    observed = np.concatenate([each.counts for each in measures])
    total = area.sum(axis=0)
    value = np.divide(observed.sum(axis=0) * MM2, total, out=none.copy(), where=total > 0)
    draws = max(len(each.simulated) for each in measures)
    simulated = np.concatenate([each.simulated[np.arange(draws) % len(each.simulated)] for each in measures], axis=1)
    bias = displacement_bias(observed, simulated)
    if number < FEW_STRUCTURES:
        low, high = poisson_interval(observed.sum(axis=0), total, config.level)
        return ZoneDensities(value, low, high, bias, "poisson")
    weights = resampling_weights(number, config.resamples, rng)
    which = rng.integers(draws, size=config.resamples)
    top = np.empty((config.resamples, len(zones)))
    for draw in range(draws):
        rows = which == draw
        # displacements spread what is observed; their mean is taken out, so that the interval lies about the value
        top[rows] = weights[rows] @ (observed + simulated[draw] - simulated.mean(axis=0))
    bottom = weights @ area
    replicates = np.divide(top * MM2, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
    low, high = percentile_interval(replicates, config.level)
    return ZoneDensities(value, np.maximum(low, 0.0), high, bias, "bootstrap")


def displacement_bias(observed: Floats, simulated: Floats) -> Floats:
    """Share (k,) by which displaced structures have too many cells in a zone; ``nan`` without cells.

    Simulation and extrapolation (J. R. Cook, L. A. Stefanski, JASA 89, 1994), linear: displacing what is displaced once
    more by the same error changes the counts about as much as the error itself has. It is too careful: of the bias of
    the phantom it sees about half.

    Args:
        observed: (m, k) counts of structures and zones. simulated: (draws, m, k) under further displacements.
    """
    counted = observed.sum(axis=0)
    again = simulated.mean(axis=0).sum(axis=0)
    return np.divide(again - counted, counted, out=np.full(len(counted), np.nan), where=counted > 0)
