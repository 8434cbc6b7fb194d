"""What does a threshold chosen on few validation patients lose on foreign patients? Simulated worlds of known truth.

    python benchmarks/threshold_choice.py
    python benchmarks/threshold_choice.py --studies 500 --csv thresholds.csv

Logits of the pixels of a patient are two normal distributions, of the class and of the rest. A patient moves both (its
calibration), a domain moves those of all its patients, and a world may move all domains alike (the network itself is
not calibrated); patients differ in how well they are separated and in how much of the class they have. Without any move
0.5 is best on the source. The foreign domains are three, with two patients each, and less well separated. Dice follows
from the distributions, without sampling pixels.

Printed is the mean Dice lost on the foreign patients against the one threshold that is best for them, by rule and
number of validation patients: over all worlds, over those whose common move is at most one logit, and in the worst.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from stainda.evaluation.thresholds import BINS, GRID, MIDDLE, robust_threshold, with_prior
from stainda.files import write_csv

Floats = npt.NDArray[np.float64]

PATIENTS = (1, 2, 3, 4, 6)
PREVALENCE, SEPARATION, SPREAD, WORSE = 0.1, 2.5, 2.0, 0.3
"""Share of the class; distance of a class's mean logit from 0, and its spread; share of the separation that is lost in
foreign domains."""

LOGITS = special.logit(GRID / BINS)
AT_MIDDLE = int(np.flatnonzero(GRID == MIDDLE * BINS)[0])


@dataclass(frozen=True)
class World:
    """Moves in logits: ``common`` to all, standard deviations of those of patients and of domains; ``sharp`` scales the
    logits of the network (2: nearly all probabilities are close to 0 or 1)."""

    common: float
    patient: float
    domain: float
    sharp: float


WORLDS = tuple(World(*one) for one in product((0, 0.5, -0.5, 1, -1, 2, -2), (0.5, 1), (0.5, 1), (1, 2)))


def pooled(dice: Floats) -> float:
    """The threshold of highest mean Dice (with patients of equal size, that of the pooled pixels, nearly)."""
    return float(GRID[dice.mean(axis=0).argmax()] / BINS)


RULES: dict[str, Callable[[Floats], float]] = {
    "pooled": pooled,
    "always 0.5": lambda dice: MIDDLE,
    "prior alone": lambda dice: with_prior(dice, len(dice)),
    "robust": robust_threshold,
}


def dice_curves(separation: Floats, move: Floats, spread: float, prevalence: Floats) -> Floats:
    """Dice at every threshold of the grid, (..., 19)."""
    separation, move, prevalence = separation[..., None], move[..., None], prevalence[..., None]
    hits = special.ndtr((separation + move - LOGITS) / spread) * prevalence
    false = special.ndtr((-separation + move - LOGITS) / spread) * (1 - prevalence)
    return np.asarray(2 * hits / (hits + false + prevalence))


def balanced_move(sharp: float) -> float:
    """The move of all logits at which a probability of 0.5 is best on the source."""

    def lost(move: float) -> float:
        hits = special.ndtr((SEPARATION * sharp + move) / (SPREAD * sharp)) * PREVALENCE
        false = special.ndtr((-SEPARATION * sharp + move) / (SPREAD * sharp)) * (1 - PREVALENCE)
        return float(-2 * hits / (hits + false + PREVALENCE))

    return float(optimize.minimize_scalar(lost, bounds=(-8, 8), method="bounded").x)


def drawn(world: World, patients: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Dice by threshold of the validation patients and of the six foreign ones, (patients, 19) each."""
    start = balanced_move(world.sharp) + world.common

    def people(count: int, worse: float) -> Floats:
        move = start + generator.normal(0, world.domain) + generator.normal(0, world.patient, count)
        there = SEPARATION * world.sharp * np.maximum(1 - worse + generator.normal(0, 0.15, count), 0.1)
        prevalence = np.clip(PREVALENCE * np.exp(generator.normal(0, 0.5, count)), 0.01, 0.5)
        return dice_curves(there, move, SPREAD * world.sharp, prevalence)

    return people(patients, 0.0), np.concatenate([people(2, WORSE) for _ in range(3)])


def rows(studies: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    """By number of validation patients, world and rule, the mean Dice lost."""
    for patients, world in product(PATIENTS, WORLDS):
        lost: dict[str, list[float]] = {name: [] for name in RULES}
        for _ in range(studies):
            seen, foreign = drawn(world, patients, generator)
            scores = foreign.mean(axis=0)
            for name, rule in RULES.items():
                lost[name].append(scores.max() - scores[np.flatnonzero(round(rule(seen) * BINS) == GRID)[0]])
        for name, values in lost.items():
            yield {"patients": patients, "rule": name, **vars(world), "lost": float(np.mean(values))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="simulated studies per world")
    parser.add_argument("--csv", help="write the table of all worlds here")
    settings = parser.parse_args()
    started = time.perf_counter()
    table = list(rows(settings.studies, np.random.default_rng(0)))
    print(f"{'validation patients':20}{'rule':14}{'all':>8}{'move <= 1':>11}{'no move':>9}{'worst':>8}")
    for patients, name in product(PATIENTS, RULES):
        mine = [row for row in table if (row["patients"], row["rule"]) == (patients, name)]
        parts = [[row["lost"] for row in mine if abs(row["common"]) <= most] for most in (2, 1, 0)]
        numbers = [float(np.mean(part)) for part in parts]
        worst = max(parts[0])
        print(f"{patients:<20}{name:14}{numbers[0]:8.4f}{numbers[1]:11.4f}{numbers[2]:9.4f}{worst:8.4f}")
    took = time.perf_counter() - started
    print(f"\nDice lost; {settings.studies} studies in each of {len(WORLDS)} worlds; {took:.0f} s")
    if settings.csv:
        write_csv(settings.csv, table, list(table[0]))


if __name__ == "__main__":
    sys.exit(main())
