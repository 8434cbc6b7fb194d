"""What the scores of a study say beyond means: ranks, equivalence, sizes of effects, variance, and patients needed.

All of it is about one measure over all targets, under the default selection rule; each is a table with a ``note`` where
the number of patients forbids to say more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stainda.config import StudyConfig
from stainda.evaluation.equivalence import bayesian_signed_rank
from stainda.evaluation.groups import contenders
from stainda.evaluation.metrics import MEASURES
from stainda.evaluation.ranking import Ranking, effect_sizes, rank_strategies
from stainda.evaluation.selection import DEFAULT_RULE, chosen_records
from stainda.evaluation.summary import ALL_CLASSES, ALL_TARGETS, Analysis
from stainda.evaluation.variance import mixed_model, patients_needed, variance_table
from stainda.randomness import generator_for

EFFECT_COLUMNS = [
    "strategy", "baseline", "n_patients", "hedges_g", "rank_biserial", "share_higher", "p_worse", "p_equal", "p_better",
    "rope", "patients_needed", "note",
]  # fmt: skip


@dataclass(frozen=True)
class Insights:
    """Tables about one measure.

    Attributes:
        strategies: those that are ranked, in the order of the study: all that had no target labels.
        ranking: of ``strategies``, by patients.
        effects: every strategy against the baseline, :data:`EFFECT_COLUMNS`.
        variance: see :func:`~stainda.evaluation.variance.variance_table`.
        mixed: see :func:`~stainda.evaluation.variance.mixed_model`.
    """

    measure: str
    strategies: tuple[str, ...]
    ranking: Ranking
    effects: pd.DataFrame
    variance: pd.DataFrame
    mixed: pd.DataFrame


def insights(records: pd.DataFrame, analysis: Analysis, config: StudyConfig, measure: str = "dice") -> Insights:
    """Look deeper into one measure of an analysis made of these records."""
    table = _patients(analysis, measure)
    ranked = contenders(config, table.columns)
    ranking = rank_strategies(_direction(measure) * table[ranked].to_numpy(float), config.evaluation.level)
    rows = chosen_records(records[records["split"] == "test"], analysis.choices, DEFAULT_RULE)
    targets = rows[rows["domain"].isin(analysis.targets)]
    generator = generator_for(config.seed, "variance", measure)
    return Insights(
        measure,
        tuple(ranked),
        ranking,
        _effects(table, config, measure),
        variance_table(targets, measure, generator),
        mixed_model(_by_domain(targets, analysis, measure), config.baseline),
    )


def _patients(analysis: Analysis, measure: str) -> pd.DataFrame:
    """Scores over all targets: a row per patient, a column per strategy."""
    rows = analysis.patients
    rows = rows[(rows["measure"] == measure) & (rows["selection"] == DEFAULT_RULE) & (rows["domain"] == ALL_TARGETS)]
    classes = set(rows["class"])
    rows = rows[rows["class"] == ALL_CLASSES] if ALL_CLASSES in classes else rows
    order = list(dict.fromkeys(rows["strategy"]))
    return rows.pivot_table(index="patient", columns="strategy", values="value", dropna=False).reindex(columns=order)


def _effects(table: pd.DataFrame, config: StudyConfig, measure: str) -> pd.DataFrame:
    base = config.baseline
    if base not in table.columns or len(table.columns) < 2:
        return pd.DataFrame(columns=EFFECT_COLUMNS)
    others = [name for name in table.columns if name != base]
    differences = _direction(measure) * (table[others].to_numpy(float) - table[[base]].to_numpy(float))
    sizes = effect_sizes(differences)
    rope = config.evaluation.rope
    rows = []
    for index, name in enumerate(others):
        generator = generator_for(config.seed, "equivalence", measure, name)
        verdict = bayesian_signed_rank(differences[:, index], rope, generator)
        needed = patients_needed(differences[:, index], level=config.evaluation.level)
        rows.append(
            {
                "strategy": name, "baseline": base, "n_patients": verdict.n, "hedges_g": sizes.standardised[index],
                "rank_biserial": sizes.rank_biserial[index], "share_higher": sizes.share_higher[index],
                "p_worse": verdict.worse, "p_equal": verdict.equal, "p_better": verdict.better, "rope": rope,
                "patients_needed": needed, "note": _note(verdict.n, needed),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=EFFECT_COLUMNS)


def _direction(measure: str) -> float:
    """1, or -1 for a distance or an error: ranks, sizes of effects and verdicts count what is better as higher."""
    known = MEASURES.get(measure)
    return 1.0 if known is None or known.higher_is_better else -1.0


def _note(n: int, needed: float) -> str:
    if n < 2:
        return "one patient: nothing can be compared"
    notes = [f"from {n} patients: very uncertain"] if n < 6 else []
    if np.isnan(needed):
        notes.append("all patients differ alike: no spread to plan with")
    if np.isinf(needed):
        notes.append("the observed mean difference is 0: no number of patients would show it")
    return "; ".join(notes)


def _by_domain(targets: pd.DataFrame, analysis: Analysis, measure: str) -> pd.DataFrame:
    """Scores per strategy, patient and target domain, seeds averaged, for the mixed model."""
    rows = analysis.patients
    rows = rows[(rows["measure"] == measure) & (rows["selection"] == DEFAULT_RULE)]
    rows = rows[rows["domain"].isin(analysis.targets)]
    rows = rows[rows["class"] == ALL_CLASSES] if ALL_CLASSES in set(rows["class"]) else rows
    names = targets.groupby("domain")[["stain", "centre"]].first()
    return rows.join(names, on="domain")[["value", "strategy", "stain", "centre", "patient"]].reset_index(drop=True)
