"""Densities with intervals: exact Poisson ones, and wider ones where the places of cells are uncertain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from scipy import special

from stainda.microenvironment.zones import Geometries, ObjectPairs, Zones, counts, signed_distance

Floats = npt.NDArray[np.float64]
MM2 = 1e6
"""Square micrometres in a square millimetre."""
TOUCHING_UM = 1e-6
"""More than distances can be off by the numbers of the computer."""


def density(count: Floats, area_um2: Floats) -> Floats:
    """Cells per mm²; ``nan`` where there is no area."""
    count, area = np.broadcast_arrays(np.asarray(count, float), np.asarray(area_um2, float))
    return np.divide(count * MM2, area, out=np.full(count.shape, np.nan), where=area > 0)


def poisson_interval(count: Floats, area_um2: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Exact interval of a Poisson rate per mm² (F. Garwood, Biometrika 28, 1936); ``nan`` where there is no area."""
    count, tail = np.asarray(count, float), (1 - level) / 2
    low = np.where(count > 0, special.gammaincinv(np.maximum(count, 1e-9), tail), 0.0)
    return density(low, area_um2), density(special.gammaincinv(count + 1, 1 - tail), area_um2)


def shifted_counts(
    structures: Geometries, pairs: ObjectPairs, points: Floats, zones: Zones, shifts: Floats
) -> npt.NDArray[np.float64]:
    """Counts by structure and zone when the cells around each structure are shifted: float (draws, m, k).

    The error of a registration is smooth: it moves all cells around a structure alike.

    Args:
        pairs: of structures and points, reaching farther than the last zone by the largest shift.
        shifts: (draws, m, 2) micrometres.
    """
    edges = np.asarray(zones.edges)
    # a distance changes by no more than the shift: what is farther from every edge of a zone stays where it is
    to_edge = np.abs(pairs.distance[:, None] - edges).min(axis=1)
    shifted = np.zeros((len(shifts), len(structures), len(zones)))
    places = shapely.points(points[pairs.point]) if len(pairs.point) else np.zeros(0, object)
    corners, owner = shapely.get_coordinates(structures, return_index=True)
    for draw, shift in enumerate(shifts):
        length = np.linalg.norm(shift, axis=1)
        near = np.flatnonzero(to_edge <= length[pairs.structure] + TOUCHING_UM)
        distance = pairs.distance.copy()
        rows = pairs.structure[near]
        moved = shapely.set_coordinates(structures.copy(), corners - shift[owner])  # the structure goes the other way
        distance[near] = signed_distance(moved, rows, places[near])
        shifted[draw] = counts(ObjectPairs(pairs.structure, pairs.point, distance), zones, len(structures))
    return shifted


def random_shifts(error_um: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Shifts (draws, m, 2) whose length has the median ``error_um`` (m,): both coordinates are normal (Rayleigh)."""
    scale = np.asarray(error_um, float) / np.sqrt(2 * np.log(2))
    return rng.standard_normal((draws, len(scale), 2)) * scale[None, :, None]


def uncertain_interval(
    simulated: Floats, area_um2: Floats, rng: np.random.Generator, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Interval of rates whose counts are uncertain: quantiles of Gamma(count + ½) over the simulated counts.

    For a single, certain count this is Jeffreys' interval.

    Args:
        simulated: (draws, ...) counts. area_um2: (...).
    """
    drawn = rng.gamma(np.repeat(simulated, 20, axis=0) + 0.5)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    low = np.where((simulated == 0).mean(axis=0) > tail, 0.0, low)
    return density(low, area_um2), density(high, area_um2)
