"""What the scores of a study say beyond means: ranks, equivalence, sizes of effects, variance, and patients needed.

Each takes one measure over all targets, under the default selection rule, on the (patient, domain, class) cells
in which every strategy has a score; each is a table with a ``note`` where the numbers of patients or trainings forbid
to say more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.config import StudyConfig
from stainda.evaluation.analysis import Analysis
from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.crossed import difference
from stainda.evaluation.equivalence import posterior
from stainda.evaluation.groups import contenders
from stainda.evaluation.metrics import direction
from stainda.evaluation.ranking import Ranking, effect_sizes, rank_strategies
from stainda.evaluation.scores import ScoreCube
from stainda.evaluation.selection import DEFAULT_RULE, chosen_records
from stainda.evaluation.variance import patients_needed, variance_table
from stainda.randomness import generator_for

EFFECT_COLUMNS = [
    "strategy", "baseline", "n_patients", "n_seeds", "hedges_g", "rank_biserial", "share_higher", "p_worse", "p_equal",
    "p_better", "rope", "patients_needed", "note",
]  # fmt: skip


@dataclass(frozen=True)
class Insights:
    """Tables about one measure.

    Attributes:
        strategies: those that are ranked, in the order of the study: all that had no target labels.
        ranking: of ``strategies``, by patients.
        effects: every strategy against the baseline, :data:`EFFECT_COLUMNS`.
        variance: see :func:`~stainda.evaluation.variance.variance_table`.
    """

    measure: str
    strategies: tuple[str, ...]
    ranking: Ranking
    effects: pd.DataFrame
    variance: pd.DataFrame


def insights(analysis: Analysis, config: StudyConfig, measure: str = "dice") -> Insights:
    """Look deeper into one measure of an analysis.

    Ranks and effects are of patients over the target domains, or over the rotations where there are several. The
    variance is that of single target domains, or of single pairs of sources and target domain.
    """
    cube = analysis.cubes[measure]
    domains = [name for name in cube.domains if name in analysis.tested]
    rows = chosen_records(analysis.records, analysis.choices, DEFAULT_RULE)
    ranked = contenders(config, cube.strategies)
    ranking = rank_strategies(_on_common_cells(cube, ranked, domains), direction(measure), config.evaluation)
    generator = generator_for(config.seed, "variance", measure)
    return Insights(
        measure,
        tuple(ranked),
        ranking,
        _effects(cube, domains, config, measure),
        variance_table(rows[rows["domain"].isin(analysis.targets)], measure, generator),
    )


def _on_common_cells(cube: ScoreCube, names: Sequence[str], domains: Sequence[str]) -> list[npt.NDArray[np.float64]]:
    """Scores over domains of strategies on what all of them have, each float (trainings, patients)."""
    if not names:  # every contender failed: the ceiling alone has records
        return []
    common = cube.common([cube.strategies.index(name) for name in names])
    runs = common.runs_over(domains, common.classes)
    seen = cube.present[:, :, [cube.domains.index(domain) for domain in domains]].any(axis=(0, 2, 3))
    return [run[:size, seen] for run, size in zip(runs, common.seeds, strict=True)]


def _effects(cube: ScoreCube, domains: Sequence[str], config: StudyConfig, measure: str) -> pd.DataFrame:
    base, sign, rope = config.baseline, direction(measure), config.evaluation.rope
    rows = []
    for name in cube.strategies:
        if name == base or base not in cube.strategies:
            continue
        first, second = (sign * cell[..., None] for cell in _on_common_cells(cube, (name, base), domains))
        result = difference(first, second, config.evaluation)
        n, trainings = int(result.n[0]), min(len(first), len(second))
        values = first.mean(axis=0) - second.mean(axis=0)
        sizes = effect_sizes(values)
        verdict = posterior(result.mean[0], result.error[0], result.freedom[0], rope)
        needed = patients_needed(values[:, 0], level=config.evaluation.level) if n >= FEW_PATIENTS else np.nan
        rows.append(
            {
                "strategy": name, "baseline": base, "n_patients": n, "n_seeds": trainings,
                "hedges_g": sizes.standardised[0], "rank_biserial": sizes.rank_biserial[0],
                "share_higher": sizes.share_higher[0], "p_worse": verdict.worse, "p_equal": verdict.equal,
                "p_better": verdict.better, "rope": rope, "patients_needed": needed,
                "note": _note(n, trainings, needed),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=EFFECT_COLUMNS)


def _note(n: int, trainings: int, needed: float) -> str:
    if n < 2:
        return "one patient: nothing can be compared"
    if n < FEW_PATIENTS:
        return f"from {n} patients: very uncertain; no probabilities and no patients needed"
    notes = ["one training each: no probabilities"] if trainings < 2 else []
    if np.isnan(needed):
        notes.append("all patients differ alike: no spread to plan with")
    if np.isinf(needed):
        notes.append("the observed mean difference is 0: no number of patients would show it")
    return "; ".join(notes)
