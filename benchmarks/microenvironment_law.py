"""Ring densities at true cells against the phantom's law, and their bias and coverage under registration error.

    python benchmarks/microenvironment_law.py [docs/results/microenvironment_law.csv]

Each glomerulus is displaced at random, so that the median displacement is the error; the interval is told that error.
"""

from __future__ import annotations

import sys

import numpy as np
from microenvironment_blocks import LATER_SEEDS, LAW, true_sections
from shapely.affinity import translate

from stainda.files import write_csv
from stainda.microenvironment.measure import displacement_bias
from stainda.microenvironment.rates import (
    MM2,
    poisson_interval,
    random_shifts,
    shifted_counts,
    uncertain_interval,
)
from stainda.microenvironment.zones import Zones, areas, counts, near_pairs, nearest, pooled_areas, pooled_counts

ZONES = Zones.of_rings(LAW["rings_um"])
ERRORS_UM = (0.0, 2.5, 5.0, 10.0, 20.0, 40.0)
REPEATS = 8


def main() -> None:
    sections = [
        section
        for seed in LATER_SEEDS[:5]
        for section in true_sections(LAW, patients=1, stains=("CD68",), centres=("A",), size=3072, seed=seed)
    ]
    rng = np.random.default_rng(0)
    rates = np.array([LAW["inside"], *LAW["ring_rates"], LAW["beyond"]])
    pooled, area = np.zeros(5), np.zeros(5)
    for one in sections:
        covered = pooled_areas(one.outlines, ZONES, one.tissue)
        for _ in range(REPEATS):
            cells = one.cells(rng)
            distance, _ = nearest(near_pairs(one.outlines, cells, ZONES.reach), len(cells))
            pooled += pooled_counts(distance, ZONES)
            area += covered
    found = pooled / area * MM2
    print(f"{len(sections)} sections x {REPEATS} draws, {int(pooled.sum())} cells")
    print("zone      law   found  ratio")
    for name, law, rate in zip((*ZONES.names, "beyond"), rates, found, strict=True):
        print(f"{name:8s} {law:5.0f} {rate:7.1f}  {rate / law:.3f}")
    rows = [_under_error(sections, error, rates[:-1], rng) for error in ERRORS_UM]
    print(
        "error um | found over law by zone, corrected | coverage of 95 % intervals of single zones by zone: told 0, "
        "told the error"
    )
    for error, bias, corrected, naive, told in rows:
        print(f"{error:8.1f} |", *(np.round(values, 3) for values in (bias, corrected)), "|",
              *(np.round(values, 3) for values in (naive, told)))  # fmt: skip
    if len(sys.argv) > 1:
        write_csv(
            sys.argv[1],
            [
                {"error_um": error, "zone": name, "found_over_law": round(float(b), 4), "corrected_over_law":
                 round(float(c), 4), "coverage_poisson": round(float(n), 4), "coverage_with_error": round(float(t), 4)}
                for error, *values in rows
                for name, b, c, n, t in zip(ZONES.names, *values, strict=True)
            ],
            ("error_um", "zone", "found_over_law", "corrected_over_law", "coverage_poisson", "coverage_with_error"),
        )  # fmt: skip


def _under_error(sections: list, error: float, rates: np.ndarray, rng: np.random.Generator) -> tuple:
    """Densities over the law, and how many intervals of single zones contain what is expected there in truth.

    Zones of two neighbours may overlap; what is expected is the law's rate by the nearest glomerulus, averaged over the
    true zone.
    """
    total, corrected, expected = np.zeros(len(ZONES)), np.zeros(len(ZONES)), np.zeros(len(ZONES))
    inside, told, number = np.zeros(len(ZONES)), np.zeros(len(ZONES)), 0
    for one in sections:
        n = len(one.outlines)
        truth = _expected_rate(one, rng)
        for _ in range(2):
            cells = one.cells(rng)
            shift = random_shifts(np.full(n, error), 1, rng)[0]
            placed = np.array([translate(o, *s) for o, s in zip(one.outlines, shift, strict=True)], dtype=object)
            covered = areas(placed, ZONES, one.tissue)
            pairs = near_pairs(placed, cells, ZONES.reach + 2.5 * error)
            found = counts(pairs, ZONES, n)
            total += found.sum(axis=0)
            expected += (truth * covered / MM2).sum(axis=0)
            low, high = poisson_interval(found, covered)
            bias = np.zeros(len(ZONES))
            inside += ((low <= truth) & (truth <= high)).sum(axis=0)
            if error:
                draws = shifted_counts(placed, pairs, cells, ZONES, random_shifts(np.full(n, error), 10, rng))
                low, high = uncertain_interval(draws, covered, rng)
                bias = displacement_bias(found, draws)
            corrected += found.sum(axis=0) * (1 - bias)
            told += ((low <= truth) & (truth <= high)).sum(axis=0)
            number += n
    return error, total / expected, corrected / expected, inside / number, told / number


def _expected_rate(one, rng: np.random.Generator) -> np.ndarray:
    """Mean of the law over each true zone, (m, k), cells per mm2, by points strewn over the tissue."""
    x0, y0, x1, y1 = one.tissue.bounds
    points = rng.uniform((x0, y0), (x1, y1), (60_000, 2))
    pairs = near_pairs(one.outlines, points, ZONES.reach)
    rate = one.law.rate_at(points, one.outlines, np.ones(len(one.outlines)))
    zone = ZONES.index(pairs.distance)
    flat = pairs.structure * len(ZONES) + zone
    size = len(one.outlines) * len(ZONES)
    own = (pairs.distance <= 0) | ~np.isin(pairs.point, pairs.point[pairs.distance <= 0])
    top = np.bincount(flat[own], rate[pairs.point[own]], minlength=size)
    bottom = np.bincount(flat[own], minlength=size)
    return (top / np.maximum(bottom, 1)).reshape(-1, len(ZONES))


if __name__ == "__main__":
    main()
