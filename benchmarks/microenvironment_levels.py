"""False alarms of the spatial tests, and power of the comparison of groups against the number of patients.

python benchmarks/microenvironment_levels.py [docs/results/microenvironment_power.csv]
"""

from __future__ import annotations

import sys

import numpy as np
import shapely
from microenvironment_blocks import LAW, TrueSection, true_sections

from stainda.config.preparation import MacrophageLawConfig
from stainda.files import write_csv
from stainda.microenvironment.envelopes import DistanceField, envelope
from stainda.microenvironment.groups import permutation_p
from stainda.microenvironment.rates import MM2
from stainda.microenvironment.window import Window
from stainda.microenvironment.zones import Zones, areas, counts, near_pairs
from stainda.phantom.law import MacrophageLaw

ZONES = Zones.of_rings((25, 50, 100))
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


def false_alarms(sections: list[TrueSection], rng: np.random.Generator) -> None:
    fields = [DistanceField.of(one.outlines, ZONES, Window(one.tissue, 6.0)) for one in sections]
    for name, draw in (("complete randomness", random_cells), ("clusters", clustered_cells)):
        alarms = {"shift": 0, "random": 0, "relabel": 0}
        for repeat in range(REPEATS):
            one, field = sections[repeat % len(sections)], fields[repeat % len(sections)]
            cells = draw(one, 300, rng)
            observed, places = field.observed(cells)
            seen = field.relative(observed, places)
            made = {
                "shift": field.relative(*field.shifted(cells, SIMULATIONS, rng)),
                "random": field.relative(*field.scattered(len(cells), SIMULATIONS, rng)),
            }
            for null, simulated in made.items():
                alarms[null] += envelope(seen, simulated).p <= 0.05
            marked = rng.permutation(len(cells))[: len(cells) // 3]
            of_marked, _ = field.observed(cells[marked])
            relabelled = field.relabelled(cells, len(marked), SIMULATIONS, rng)
            simulated = field.relative(relabelled, places)
            alarms["relabel"] += envelope(field.relative(of_marked, places), simulated).p <= 0.05
        shares = {null: f"{number / REPEATS:.3f}" for null, number in alarms.items()}
        print(f"false alarms at 5 %, {name}, {REPEATS} sections:", shares)


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
    false_alarms(true_sections(flat, patients=4, stains=("CD68",), centres=("A",), size=1536, seed=5), rng)
    rows = power(rng)
    if len(sys.argv) > 1:
        write_csv(sys.argv[1], rows, ("factor", "patients_per_group", "rejected"))


if __name__ == "__main__":
    main()
