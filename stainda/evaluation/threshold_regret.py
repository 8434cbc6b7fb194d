"""What was lost by the threshold: Dice at the one in use against that of the best one for each domain's test slides.

A diagnosis, never a choice: the best threshold is found on the test labels, and on the same patients it is scored on,
so what it gains is the most that any rule could have gained. It is looked for in steps of 0.05, without touching
another pixel, from the counts of ``probabilities.parquet``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stainda.config import EvaluationConfig
from stainda.evaluation.crossed import Estimates, single_mean
from stainda.evaluation.curves import CALIBRATION_BINS
from stainda.evaluation.evidence import THRESHOLD_COLUMNS
from stainda.evaluation.pooling import joined_trainings
from stainda.evaluation.scores import nanmean, patient_scores
from stainda.evaluation.selection import as_reported
from stainda.run_directory.result_tables import REGRET

TRAINING = ["strategy", "trial", "seed", "job"]
REGRET_COLUMNS = REGRET.names


@dataclass(frozen=True)
class ThresholdRegret:
    """What was lost by thresholds.

    Attributes:
        trainings: :data:`REGRET_COLUMNS`; means over the test patients of a domain; ``lost_low`` and ``lost_high`` are
            the lowest and the highest patient, no interval.
        patients: strategy, trial, seed, job, domain, class, patient, ``lost`` (below 0 where the patient did better at
            the threshold in use than at the best of its domain).
    """

    trainings: pd.DataFrame
    patients: pd.DataFrame


def threshold_regret(probabilities: pd.DataFrame, records: pd.DataFrame) -> ThresholdRegret:
    """Of every training, at its best checkpoint, on the test slides of every domain; where it was made again from all
    source patients, of that one.

    Args:
        probabilities: rows of ``probabilities.parquet``; without :data:`THRESHOLD_COLUMNS`, as those of an earlier
            version, nothing is returned.
        records: the Dice at the thresholds in use.
    """
    patient_columns = [*TRAINING, "domain", "class", "patient", "lost"]
    empty = ThresholdRegret(pd.DataFrame(columns=list(REGRET_COLUMNS)), pd.DataFrame(columns=patient_columns))
    if probabilities.empty or not set(THRESHOLD_COLUMNS) <= set(probabilities.columns):
        return empty
    keys = [*TRAINING, "domain", "class"]
    rows = as_reported(probabilities[probabilities["split"] == "test"])
    used = as_reported(records[(records["split"] == "test") & (records["measure"] == "dice")])
    known = patient_scores(used, keys).set_index([*keys, "patient"])["value"]
    trainings: list[dict[str, Any]] = []
    patients: list[pd.DataFrame] = []
    for key, group in rows.groupby(keys, sort=False):
        curves = _dice_curves(group)
        at = pd.Series({name: known.get((*key, name), np.nan) for name in curves.index})
        defined = at.notna() & curves.notna().all(axis=1)
        if not defined.any():
            continue
        curves, at = curves[defined], at[defined]
        mean, dice = curves.mean(), float(at.mean())
        in_use, best = float(group["threshold"].iloc[0]), float(mean.idxmax())
        gained = curves[best] - at
        if mean[best] <= dice:  # the one in use may lie between those tried
            best, gained = in_use, at * 0.0
        base = dict(zip(keys, key, strict=True))
        trainings.append(
            {
                **base, "threshold": in_use, "dice": dice, "best_threshold": best,
                "best_dice": dice + float(gained.mean()), "lost": float(gained.mean()),
                "lost_low": float(gained.min()), "lost_high": float(gained.max()), "n_patients": len(at),
            }
        )  # fmt: skip
        patients.append(pd.DataFrame({**base, "patient": at.index, "lost": gained.to_numpy(float)}))
    if not trainings:
        return empty
    together = pd.concat(patients, ignore_index=True)[patient_columns]
    return ThresholdRegret(pd.DataFrame(trainings, columns=list(REGRET_COLUMNS)), together)


def _dice_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Dice of every patient (rows) at the lower end of every bin but the first (columns, the thresholds)."""
    counts = {
        name: rows.pivot_table(index="patient", columns="bin", values=name, aggfunc="sum", fill_value=0).reindex(
            columns=range(CALIBRATION_BINS), fill_value=0
        )
        for name in ("own", "other")
    }
    above = {name: table.to_numpy(float)[:, ::-1].cumsum(axis=1)[:, ::-1] for name, table in counts.items()}
    true_pixels = above["own"][:, :1]
    size = above["own"] + above["other"] + true_pixels
    dice = np.divide(2 * above["own"], size, out=np.full(size.shape, np.nan), where=true_pixels > 0)
    steps = np.arange(CALIBRATION_BINS) / CALIBRATION_BINS
    return pd.DataFrame(dice[:, 1:], index=counts["own"].index, columns=steps[1:])


def mean_regret(trainings: Sequence[pd.DataFrame], settings: EvaluationConfig) -> Estimates | None:
    """What the chosen trainings of one strategy lost: each patient's mean over domains, then over rotations, then over
    patients and trainings as everywhere (``crossed``); one column. ``None`` where nothing is known.

    Args:
        trainings: per rotation, rows of :attr:`ThresholdRegret.patients` of its chosen trainings and target domains.
    """
    known = [rows for rows in trainings if len(rows)]
    if not known:
        return None
    rows = joined_trainings([table.assign(rotation=number) for number, table in enumerate(known)])
    means = rows.groupby(["rotation", "seed", "patient"])["lost"].mean().reset_index()
    cells = means.pivot_table(index="seed", columns="patient", values="lost", aggfunc="mean").to_numpy(float)
    complete = np.isfinite(cells).all(axis=0)
    result = single_mean(np.where(complete, cells, np.nan)[:, :, None], settings)
    return result if np.isfinite(nanmean(result.mean, 0)) else None
