"""How a result depends on which patients taught: trainings without one of them, on the same test slides."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from stainda.evaluation.scores import patient_scores
from stainda.run_directory.training_tables import LEAVE_ONE_OUT

LEFT_OUT_COLUMNS = LEAVE_ONE_OUT.names
ALL = "all targets"


def leave_one_out(records: pd.DataFrame, left: pd.DataFrame, targets: Collection[str], seed: int) -> pd.DataFrame:
    """Mean Dice over test patients, by target domain and over all of them (each patient's mean, then over patients).

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
    parts = [scores.groupby([*keys, "domain", "patient"], sort=False)["value"].mean()]
    parts.append(parts[0].groupby([*keys, "patient"], sort=False).mean())
    result: list[dict[str, Any]] = []
    for part in parts:
        table = part.reset_index().assign(**({} if "domain" in part.index.names else {"domain": ALL}))
        for key, group in table.groupby([*keys, "domain"], sort=False):
            place = dict(zip([*keys, "domain"], key, strict=True))
            result.append({**place, "dice": float(group["value"].mean()), "n_patients": group["patient"].nunique()})
    whole = {row["domain"]: row["dice"] for row in result if row["without"] == "" and row["seed"] == seed}
    for row in result:
        row["difference"] = row["dice"] - whole.get(row["domain"], float("nan")) if row["without"] else 0.0
    return pd.DataFrame(result, columns=list(LEFT_OUT_COLUMNS))
