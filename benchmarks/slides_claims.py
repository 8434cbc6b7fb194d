"""How often does the page claim a difference between aggregators that are the same? Simulated studies of slides.

    python benchmarks/slides_claims.py
    python benchmarks/slides_claims.py --studies 1000 --patients 40 --signal 0

A study has patients of one target domain, half of them with the label, and seven aggregators that are one method. The
log odds of a patient are what the patient shows (standard deviation .7, and ``--signal`` with the label), what the
training makes of the label (``--training``), and a rest (``--rest``), so that the true AUROC of trainings differs and
that of aggregators does not. A false claim is any aggregator said to score higher or lower than the first:

- ``bootstrap``: as the page said it before, where the interval of the bootstrap over patients and trainings, of each
  comparison alone, leaves out 0;
- ``page``: as it says it now, where p of ``stainda.slide_level.differences`` is small after Holm's correction; with
  fewer than three trainings it says nothing;
- ``shifted``: how often the page claims a difference of the last aggregator where its positive patients have 1.2 less.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from stainda.evaluation import holm
from stainda.evaluation.two_class import CrossedBootstrap, Resampled, Trained, Units, interval
from stainda.slide_level.differences import difference

AGGREGATORS, PATIENT, SHIFT, LEVEL = 7, 0.7, -1.2, 0.95


@dataclass(frozen=True)
class World:
    """Patients and the standard deviations of a study."""

    patients: int = 24
    signal: float = 1.2
    training: float = 0.8
    rest: float = 0.5
    resamples: int = 400


def claims(world: World, trainings: int, generator: np.random.Generator, *, shift: float = 0.0) -> dict[str, bool]:
    """Whether a study makes a claim, by rule; with ``shift``, whether it makes that of the last aggregator."""
    labels = np.arange(world.patients) % 2 == 0
    units = Units([f"P{k}" for k in range(world.patients)], labels, ["B"] * world.patients)
    bootstrap = CrossedBootstrap(units, world.resamples, generator)
    shown = PATIENT * generator.normal(size=world.patients) + world.signal * labels
    scores = []
    for index in range(AGGREGATORS):
        made = world.training * generator.normal(size=(trainings, 1)) * labels
        rest = world.rest * generator.normal(size=(trainings, world.patients))
        moved = shift * labels * (index == AGGREGATORS - 1)
        scores.append(bootstrap.score("auroc", Trained(shown + made + rest + moved, np.zeros(trainings)), "B"))
    counts = bootstrap.counts("B")
    p = holm(np.array([difference(score, scores[0], counts, LEVEL).p for score in scores[1:]]))
    if shift:
        return {"shifted": bool(p[-1] <= 1 - LEVEL)}
    return {
        "bootstrap": any(_excludes_0(score, scores[0], counts) for score in scores[1:]),
        "page": bool((p <= 1 - LEVEL).any()),
    }


def rates(world: World, trainings: int, studies: int, seed: int = 0) -> dict[str, float]:
    """Shares of studies by rule."""
    generator = np.random.default_rng([seed, trainings])
    made = [
        claims(world, trainings, generator) | claims(world, trainings, generator, shift=SHIFT) for _ in range(studies)
    ]
    return {name: float(np.mean([row[name] for row in made])) for name in made[0]}


def _excludes_0(score: Resampled, reference: Resampled, counts: tuple[int, int]) -> bool:
    low, high, _ = interval(score.draws - reference.draws, counts, LEVEL)
    return low > 0 or high < 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--patients", type=int, default=World.patients)
    for name in ("signal", "training", "rest"):
        parser.add_argument(f"--{name}", type=float, default=getattr(World, name))
    given = parser.parse_args()
    world = World(given.patients, given.signal, given.training, given.rest)
    print("trainings  bootstrap  page  shifted")
    for trainings in (1, 2, 3, 4, 5):
        found = rates(world, trainings, given.studies)
        print(f"{trainings:9}  {found['bootstrap']:9.1%}  {found['page']:.1%}  {found['shifted']:.1%}", flush=True)


if __name__ == "__main__":
    main()
