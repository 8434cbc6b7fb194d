"""Do 95 % intervals cover 95 %, and do tests hold their level? Simulated studies of known truth.

    python benchmarks/interval_coverage.py
    python benchmarks/interval_coverage.py --studies 10000 --csv coverage.csv
    python benchmarks/interval_coverage.py --markdown docs/concepts/statistics.md   # writes the table there

A study has patients, trainings (seeds) of two strategies, and two target domains. A score is the sum of effects of the
patient, patient × strategy, domain × strategy, training, and a rest; the domains are those the question is about, so
their effects belong to the truth. There is no difference between the strategies over the domains. Printed are the
coverage of the intervals of a mean and of a difference, and how often a difference is called, by the page's rules and
by the tests that the page used before: sign flips over patients, and the mixed model with a random intercept per
patient. With one training the page has no interval, but the range of the patients.

Next to them stand two bootstraps: over patients alone, which the page used before with one training, and crossed over
patients and the trainings of each strategy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stainda.config import EvaluationConfig
from stainda.evaluation import difference, holm, single_mean
from stainda.evaluation.bootstrap import FEW_PATIENTS, expanded_interval, resampling_weights
from stainda.evaluation.crossed import INTERVAL
from stainda.files import write_csv

SETTINGS = EvaluationConfig()
RESAMPLES = 500
PATIENTS = (4, 6, 8, 12, 20, 40)
TRAININGS = (1, 2, 3, 4, 5)
OF_THE_PAGE = ("mean", "difference", "called")
BOOTSTRAPS = ("patient_bootstrap", "crossed_bootstrap")


@dataclass(frozen=True)
class World:
    """Standard deviations of the effects; ``skewed``: patients and trainings vary as a beta distribution does.

    ``rotations``: the study is of that many rotations, a patient's score its mean over them; ``shared``: trainings of
    all rotations have the same effect, as they had with the same seed, else each its own.
    """

    name: str
    patient: float = 0.08
    patient_strategy: float = 0.05
    domain_strategy: float = 0.05
    training: float = 0.03
    rest: float = 0.03
    skewed: bool = False
    rotations: int = 1
    shared: bool = False
    second_training: float | None = None
    """Of the second strategy, where its trainings vary otherwise."""


WORLDS = (
    World("trainings vary .03"),
    World("trainings alike", training=0.0),
    World("trainings dominate", patient_strategy=0.01, rest=0.01),
    World("one strategy's trainings vary", training=0.05, second_training=0.01),
    World("much rest", training=0.01, rest=0.08),
    World("skewed", skewed=True),
    World("3 rotations, own seeds", rotations=3),
    World("3 rotations, shared seeds", rotations=3, shared=True),
)


def drawn(world: World, patients: int, trainings: int, studies: int, generator: np.random.Generator) -> Any:
    """Scores of two strategies without a difference, float (2, trainings, patients, domains, studies); truth is 0."""

    def effect(sd: float, *size: int) -> Any:
        if world.skewed:
            return sd * (generator.beta(6, 2, size) - 0.75) / np.sqrt(0.75 * 0.25 / 9)
        return generator.normal(0, sd, size)

    domain = generator.normal(0, world.domain_strategy, (2, 1, 1, 2, studies))
    domain -= domain.mean(axis=3, keepdims=True)  # the domains are fixed: no difference over them
    own = 1 if world.shared else world.rotations
    training = effect(world.training, own, 2, trainings, 1, 1, studies).mean(axis=0)
    if world.second_training is not None:
        training[1] *= world.second_training / world.training
    rest = generator.normal(0, world.rest, (2, trainings, patients, 2, studies)) / np.sqrt(world.rotations)
    return (
        effect(world.patient, 1, 1, patients, 1, studies)
        + effect(world.patient_strategy, 2, 1, patients, 1, studies)
        + domain
        + training
        + rest
    )


def sign_flips(differences: Any) -> Any:
    """p of the sign-flip test over patients (n, k), as the page had it before."""
    n = len(differences)
    signs = np.where((np.arange(2**n)[:, None] >> np.arange(n)) & 1, 1.0, -1.0) if n <= 12 else None
    if signs is None:
        signs = np.where(np.random.default_rng(2).random((2000, n)) < 0.5, -1.0, 1.0)
    observed = np.abs(differences.sum(axis=0))
    return (np.abs(signs @ differences) >= observed - 1e-12).mean(axis=0)


def intercept_model(scores: Any) -> Any:
    """p of the strategy in ``score ~ strategy + domain + (1 | patient)`` with trainings averaged, float (studies,).

    For a balanced design the estimate is the mean difference and its error that of all that patients and domains do not
    explain: what a mixed model without patient × strategy and domain × strategy says (Wald).
    """
    from scipy import special

    cells = scores.mean(axis=1)  # (2, patients, domains, studies)
    rest = cells - cells.mean(axis=(0, 2), keepdims=True) - cells.mean(axis=(0, 1), keepdims=True)
    rest = rest - cells.mean(axis=(1, 2), keepdims=True) + 2 * cells.mean(axis=(0, 1, 2), keepdims=True)
    n = cells.shape[1] * cells.shape[2]
    variance = (rest**2).sum(axis=(0, 1, 2)) / (2 * n - cells.shape[1] - 2)
    gain = cells[0].mean(axis=(0, 1)) - cells[1].mean(axis=(0, 1))
    return 2 * special.ndtr(-np.abs(gain) / np.sqrt(2 * variance / n))


def bootstrapped(first: Any, second: Any, trainings: bool) -> tuple[Any, Any]:
    """Intervals of ``first - second``, (trainings, patients, studies) each, by the bootstrap over patients.

    The quantiles are taken further out for few patients (``expanded``), as the page did.

    Args:
        trainings: those of each strategy are drawn as well (crossed), each strategy's on its own.
    """
    generator = np.random.default_rng(1)
    _, n, studies = first.shape
    people = resampling_weights(n, RESAMPLES, generator) / n
    gains = np.zeros((RESAMPLES, studies))
    for sign, part in ((1, first), (-1, second)):
        drawn_means = np.stack([people @ run for run in part])  # (trainings, resamples, studies)
        count = len(part)
        weights = resampling_weights(count, RESAMPLES, generator) / count
        if not trainings:
            weights[:] = 1 / count
        gains += sign * np.einsum("bs,sbk->bk", weights, drawn_means)
    return expanded_interval(gains, n, SETTINGS.level)


def _covers(ends: tuple[Any, Any]) -> float:
    return float(((ends[0] <= 0) & (ends[1] >= 0)).mean())


def rows(studies: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    for world in WORLDS:
        for trainings in TRAININGS:
            for patients in PATIENTS:
                scores = drawn(world, patients, trainings, studies, generator)
                first, second = scores.mean(axis=3)
                apart, alone = difference(first, second, SETTINGS), single_mean(first, SETTINGS)
                gains = first.mean(axis=0) - second.mean(axis=0)
                yield {
                    "world": world.name, "trainings": trainings, "patients": patients, "kind": apart.kinds[0],
                    "mean": _inside(alone), "difference": _inside(apart), "called": float(np.mean(apart.p <= 0.05))
                    if np.isfinite(apart.p).all() else np.nan,
                    "patient_bootstrap": _covers(bootstrapped(first, second, False)),
                    "crossed_bootstrap": _covers(bootstrapped(first, second, True)),
                    "sign_flips": float(np.mean(sign_flips(gains) <= 0.05)),
                    "intercept_model": float(np.mean(intercept_model(scores) <= 0.05)),
                }  # fmt: skip


def markdown(table: list[dict[str, Any]], studies: int) -> str:
    """The lowest and highest of all worlds, by number of trainings and patients."""
    lines = [
        "| trainings | patients | intervals of a mean cover | of a difference | differences called "
        "| bootstrap over patients covers a difference | crossed with trainings |",
        "|---|---|---|---|---|---|---|",
    ]
    for trainings in TRAININGS:
        for patients in (patient for patient in PATIENTS if patient >= FEW_PATIENTS):
            some = [row for row in table if (row["trainings"], row["patients"]) == (trainings, patients)]
            cells = [_from_to([100 * row[name] for row in some]) for name in (*OF_THE_PAGE, *BOOTSTRAPS)]
            lines.append(f"| {trainings} | {patients} | {' | '.join(cells)} |")
    error = 196 * (0.05 * 0.95 / studies) ** 0.5
    return "\n".join([f"Per cent, over {len(WORLDS)} kinds of studies; {studies:,} each, ± {error:.1f}:", "", *lines])


def _from_to(values: list[float]) -> str:
    return "none" if np.isnan(values).all() else f"{min(values):.1f}-{max(values):.1f}"


def write_table(page: Path, text: str) -> None:
    """Put a table between its two marks on a page."""
    start, end = "<!-- coverage -->", "<!-- end of coverage -->"
    before, rest = page.read_text(encoding="utf-8").split(start)
    page.write_text(f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def _inside(found: Any) -> float:
    """How often intervals cover the truth; nan where the page has none, but a range or nothing."""
    return float(((found.low <= 0) & (found.high >= 0)).mean()) if found.kinds[0] == INTERVAL else np.nan


def of_families(studies: int, generator: np.random.Generator) -> float:
    """How often any of 8 strategies without a difference is called after Holm; 8 patients, 3 trainings."""
    world, called = WORLDS[0], []
    base = drawn(world, 8, 3, studies, generator)[0].mean(axis=2)
    for _ in range(8):
        other = drawn(world, 8, 3, studies, generator)[0].mean(axis=2)
        called.append(difference(other, base, SETTINGS).p)
    return float(np.mean([holm(one).min() <= 0.05 for one in np.array(called).T]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1500, help="simulated studies per row")
    parser.add_argument("--csv", help="write the table here")
    parser.add_argument("--markdown", type=Path, help="write the summary into this page, between its marks")
    settings = parser.parse_args()
    started = time.perf_counter()
    generator = np.random.default_rng(0)
    table = list(rows(settings.studies, generator))
    print(
        f"{'':31}{'trainings':>9}{'patients':>9}{'mean in':>9}{'diff in':>9}{'called':>8}"
        f"{'people':>8}{'crossed':>8}{'flips':>8}{'mixed':>8}  what"
    )
    for row in table:
        numbers = "".join(
            f"{100 * row[name]:8.1f}" for name in (*OF_THE_PAGE, *BOOTSTRAPS, "sign_flips", "intercept_model")
        )
        print(f"{row['world']:31}{row['trainings']:9d}{row['patients']:9d}{numbers}  {row['kind']}")
    print(f"any false call among 8 strategies (Holm): {100 * of_families(settings.studies, generator):.1f} %")
    error = 196 * (0.05 * 0.95 / settings.studies) ** 0.5
    print(f"\nper cent; known to about ± {error:.1f}; {time.perf_counter() - started:.0f} s")
    print(text := markdown(table, settings.studies))
    if settings.markdown:
        write_table(settings.markdown, text)
    if settings.csv:
        rounded = ({name: round(v, 5) if isinstance(v, float) else v for name, v in row.items()} for row in table)
        write_csv(settings.csv, rounded, list(table[0]))


if __name__ == "__main__":
    sys.exit(main())
