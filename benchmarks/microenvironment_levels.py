"""False alarms of the spatial tests, and power of the comparison of groups against the number of patients.

python benchmarks/microenvironment_levels.py docs/results/microenvironment_levels.csv
python benchmarks/microenvironment_levels.py docs/results/microenvironment_power.csv power
"""

from __future__ import annotations

import sys

import numpy as np
import shapely
from microenvironment_blocks import LAW, NEW_SEEDS, TrueSection, true_sections

from stainda.config.preparation import MacrophageLawConfig
from stainda.files import write_csv
from stainda.microenvironment.curves import CELL_STEPS_UM, FUNCTIONS
from stainda.microenvironment.envelopes import envelope
from stainda.microenvironment.groups import permutation_p
from stainda.microenvironment.patterns import CellPairs, random_pairs, relabelled_pairs
from stainda.microenvironment.raster_fields import RasterField, rotated_points
from stainda.microenvironment.rates import MM2
from stainda.microenvironment.window import CountingWindow
from stainda.microenvironment.zones import Zones, areas, counts, near_pairs
from stainda.phantom.law import MacrophageLaw

ZONES = Zones.of_rings((25, 50, 100))
CENTRE_STEPS = np.arange(30.0, 301.0, 30.0)
REPEATS, SIMULATIONS = 400, 39
PATIENTS = (3, 4, 6, 8, 12, 16)
FACTORS = (1.0, 1.3, 1.6, 2.0)
POOL = 60


def in_tissue(points: np.ndarray, tissue: shapely.Geometry) -> np.ndarray:
    shapely.prepare(tissue)
    return points[shapely.contains_xy(tissue, points[:, 0], points[:, 1])]


def random_cells(one: TrueSection, number: int, rng: np.random.Generator) -> np.ndarray:
    x0, y0, x1, y1 = one.tissue.bounds
    return in_tissue(rng.uniform((x0, y0), (x1, y1), (2 * number, 2)), one.tissue)[:number]


def clustered_cells(one: TrueSection, number: int, rng: np.random.Generator) -> np.ndarray:
    """Clusters of about ten cells, 25 micrometres wide, wherever the glomeruli are."""
    parents = random_cells(one, max(1, number // 10), rng)
    cells = np.repeat(parents, rng.poisson(10, len(parents)), axis=0)
    return in_tissue(cells + rng.normal(0, 25, cells.shape), one.tissue)


def fields_of(section: TrueSection) -> dict[str, RasterField]:
    """What cells are counted about: zones of the outlines, and rings about the centres."""
    window = CountingWindow(section.tissue, 6.0)
    centres = shapely.get_coordinates(shapely.centroid(section.outlines))
    return {
        "density": RasterField.of_zones(section.outlines, ZONES, window),
        "cross": RasterField.about_centres(centres, CENTRE_STEPS, window),
    }


def false_alarms(sections: list[TrueSection], rng: np.random.Generator) -> list[dict[str, object]]:
    """Share of sections without any association whose test rejects, by curve and null hypothesis."""
    fields = [fields_of(section) for section in sections]
    rows = []
    for pattern, draw in (("random", random_cells), ("clusters", clustered_cells)):
        alarms: dict[tuple[str, str], int] = {}
        for repeat in range(REPEATS):
            place = repeat % len(sections)
            cells = rng.permutation(draw(sections[place], 300, rng))
            third = len(cells) // 3
            for kind, field in fields[place].items():
                for null in ("shift", "csr", "relabel"):
                    mine, others = (cells[:third], cells[third:]) if null == "relabel" else (cells, None)
                    drawn = field.simulated(null, mine, SIMULATIONS, rng, others=others)
                    for name, function in FUNCTIONS[kind].items():
                        simulated, observed = (function(x.ratio, CENTRE_STEPS) for x in (drawn, field.observed(mine)))
                        alarms[name, null] = alarms.get((name, null), 0) + (envelope(observed, simulated).p <= 0.05)
            window = fields[place]["cross"].window
            turned = rotated_points(cells, fields[place]["cross"].angle)
            pairs = CellPairs.of(turned, window, CELL_STEPS_UM)
            chosen = np.arange(len(turned)) < third
            own = {"csr": (pairs.counts(), random_pairs(len(turned), window, CELL_STEPS_UM, SIMULATIONS, rng)),
                   "relabel": (pairs.counts(chosen), relabelled_pairs(pairs, third, SIMULATIONS, rng))}  # fmt: skip
            for null, (found, drawn) in own.items():
                for name, function in FUNCTIONS["cells"].items():
                    simulated, observed = (function(x.ratio, CELL_STEPS_UM) for x in (drawn, found))
                    alarms[name, null] = alarms.get((name, null), 0) + (envelope(observed, simulated).p <= 0.05)
        for (name, null), number in alarms.items():
            print(f"false alarms at 5 %, {pattern}: {name:8s} {null:8s} {number / REPEATS:.3f}")
            rows.append({"cells": pattern, "function": name, "null": null, "rejected": number / REPEATS})
    return rows


def patients(sections: list[TrueSection], factor: float, rng: np.random.Generator) -> np.ndarray:
    """Density in the first ring of patients of one group, each with a level of his own."""
    config = MacrophageLawConfig(**LAW, patient_sd=0.3, group_factors={"a": factor})
    found = []
    for number, one in enumerate(sections):
        law = MacrophageLaw.of(config, round(1000 * factor), f"P{number}", "a")
        cells = law.cells(one.section.scene, rng)[:, :2]
        near = counts(near_pairs(one.outlines, cells, ZONES.reach), ZONES, len(one.outlines))[:, 1].sum()
        found.append(near / areas(one.outlines, ZONES, one.tissue)[:, 1].sum() * MM2)
    return np.array(found)


def power(rng: np.random.Generator) -> list[dict[str, object]]:
    sections = true_sections(LAW, patients=POOL, stains=("CD68",), centres=("A",), size=1536, seed=1000)
    pools = {factor: patients(sections, factor, rng) for factor in FACTORS}
    stable = pools[1.0]
    rows = []
    print("power of a permutation test at 5 %, first ring, by patients per group")
    print("factor   ", *PATIENTS)
    for factor in FACTORS:
        shares = []
        for n in PATIENTS:
            alarms = 0
            for _ in range(400):
                mine = rng.permutation(POOL)
                first, second = mine[:n], mine[n : 2 * n]  # other anatomies in the two groups
                alarms += permutation_p(stable[first], pools[factor][second], rng, 499) <= 0.05
            shares.append(alarms / 400)
            rows.append({"factor": factor, "patients_per_group": n, "rejected": shares[-1]})
        print(f"{factor:8.1f}", *(f"{share:.3f}" for share in shares))
    return rows


def main() -> None:
    rng = np.random.default_rng(3)
    flat = {"inside": 200.0, "rings_um": (25.0,), "ring_rates": (200.0,), "beyond": 200.0}
    if "power" in sys.argv[2:]:
        write_csv(sys.argv[1], power(rng), ("factor", "patients_per_group", "rejected"))
    else:
        sections = true_sections(flat, patients=4, stains=("CD68",), centres=("A",), size=1536, seed=NEW_SEEDS[0])
        write_csv(sys.argv[1], false_alarms(sections, rng), ("cells", "function", "null", "rejected"))


if __name__ == "__main__":
    main()
