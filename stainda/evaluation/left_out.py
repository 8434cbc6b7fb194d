"""How a result depends on which patients taught: trainings without one of them, on the same test slides."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from stainda.evaluation.scores import patient_scores
from stainda.run_directory.training_tables import LEAVE_ONE_OUT

LEFT_OUT_COLUMNS = LEAVE_ONE_OUT.names
ALL = "all targets"
CELL = ["domain", "patient", "class"]


def leave_one_out(records: pd.DataFrame, left: pd.DataFrame, targets: Collection[str], seed: int) -> pd.DataFrame:
    """Mean Dice over test patients, by target domain and over all of them (each patient's mean, then over patients).

    Differences are between means over the (patient, domain, class) cells in which both trainings have a score.

    Args:
        records: of the chosen trainings with all patients, of one strategy.
        left: of the trainings without a patient, with a column ``without``.
        seed: of the trainings in ``left``; differences are to the training with all patients of the same seed.

    Returns:
        :data:`LEFT_OUT_COLUMNS`; ``without`` is empty for the trainings with all, one for each of their seeds.
    """
    together = pd.concat([records.assign(without=""), left], ignore_index=True)
    rows = together[(together["split"] == "test") & (together["checkpoint"] == "best")]
    rows = rows[rows["measure"].eq("dice") & rows["domain"].isin(targets)]
    keys = ["strategy", "without", "seed"]
    scores = patient_scores(rows, [*keys, "domain", "class"]).dropna(subset=["value"])
    trainings = {key: table.set_index(CELL)["value"] for key, table in scores.groupby(keys, sort=False)}
    result: list[dict[str, Any]] = []
    for (strategy, without, own_seed), cells in trainings.items():
        whole = trainings.get((strategy, "", seed), cells.iloc[:0]) if without else cells
        common = cells.index.intersection(whole.index)
        apart = _means(cells.loc[common]) - _means(whole.loc[common])
        for domain, dice in _means(cells).items():
            inside = cells if domain == ALL else cells[cells.index.get_level_values("domain") == domain]
            result.append(
                {
                    "strategy": strategy, "without": without, "seed": own_seed, "domain": domain, "dice": float(dice),
                    "difference": float(apart.get(domain, np.nan)),
                    "n_patients": inside.index.get_level_values("patient").nunique(),
                }
            )  # fmt: skip
    return pd.DataFrame(result, columns=list(LEFT_OUT_COLUMNS))


def _means(cells: pd.Series) -> pd.Series:
    """Over patients, of every domain, and of all (each patient's mean over its domains first)."""
    by_domain = cells.groupby(["domain", "patient"], sort=False).mean()
    result = by_domain.groupby("domain", sort=False).mean()
    if len(by_domain):
        result[ALL] = by_domain.groupby("patient", sort=False).mean().mean()
    return result
