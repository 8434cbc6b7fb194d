"""The search as tables: trials with a column per setting, and how much each setting mattered."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd

from stainda.report.run import LoadedRun
from stainda.run_directory.contents import STORAGE

FEWEST_FOR_IMPORTANCE = 8
"""Finished trials below which a ranking of settings would be noise."""

MOST_FOR_IMPORTANCE = 1000
"""Trials a forest is fitted to at most: more change shares by less than they cost."""


def dashboard_command(run: LoadedRun) -> str:
    """What shows the stored Optuna studies of a run, typed in its directory; empty where it keeps none."""
    return "stainda dashboard ." if run.study.search.storage is not None or run.path(STORAGE.path) else ""


def without_password(address: str) -> str:
    """A storage address that may be shown: ``postgresql://user:PASSWORD@host/name``."""
    return re.sub(r"//([^/@]*?):.*@", r"//\1:PASSWORD@", address)


def trial_table(run: LoadedRun) -> tuple[pd.DataFrame, list[str]]:
    """One row per strategy and trial with the seed it was searched with, a column per setting; and those columns.

    Further seeds of the chosen setting are no draws of the search and are left out.
    """
    if run.trials.empty:
        return pd.DataFrame(columns=["strategy", "trial", "value", "chosen"]), []
    rows = run.trials.sort_values(["strategy", "trial", "seed"]).drop_duplicates(["strategy", "trial"])
    settings = pd.DataFrame([parameters(value) for value in rows["params"]], index=rows.index)
    columns = [str(name) for name in settings.columns]
    table = pd.concat([rows[["strategy", "trial", "seed", "value", "chosen", "state"]], settings], axis=1)
    return table.reset_index(drop=True), columns


def parameters(value: Any) -> dict[str, Any]:
    """The settings of a trial from the JSON in trials.csv; values that are lists become text."""
    try:
        result = json.loads(value) if value else {}
    except ValueError:
        return {"unreadable": value}
    if not isinstance(result, dict):
        return {}
    return {
        key: number if isinstance(number, (int, float, str, bool)) else json.dumps(number)
        for key, number in result.items()
    }


def searched(table: pd.DataFrame, columns: list[str]) -> list[str]:
    """Settings that take more than one value in these trials."""
    return [name for name in columns if table[name].dropna().astype(str).nunique() > 1]


def importance_table(table: pd.DataFrame, columns: list[str], seed: int = 0) -> pd.DataFrame:
    """Importance of settings for the score on source validation, by strategy.

    Permutation importance (Breiman 2001) of a random forest fitted to the finished trials: how much the fit of the
    forest worsens (mean squared error) when one setting is shuffled, as shares of the sum. Strategies with fewer than
    :data:`FEWEST_FOR_IMPORTANCE` finished trials are left out; of more than :data:`MOST_FOR_IMPORTANCE` evenly spaced
    ones are taken.

    Returns:
        ``strategy``, ``setting``, ``importance`` (shares, 0 to 1), ``n_trials``.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    rows: list[dict[str, Any]] = []
    for strategy, mine in table[table["value"].notna()].groupby("strategy", sort=False):
        mine = mine.iloc[np.linspace(0, len(mine) - 1, min(len(mine), MOST_FOR_IMPORTANCE)).round().astype(int)]
        names = searched(mine, columns)
        if len(mine) < FEWEST_FOR_IMPORTANCE or not names or mine["value"].nunique() < 2:
            continue
        x = np.stack([_numbers(mine[name]) for name in names], 1)
        y = mine["value"].to_numpy(float)
        forest = RandomForestRegressor(40, random_state=seed, n_jobs=1).fit(x, y)
        result = permutation_importance(forest, x, y, n_repeats=5, random_state=seed, n_jobs=1)
        sizes = np.maximum(result.importances_mean, 0)
        total = sizes.sum()
        for name, size in zip(names, sizes, strict=True):
            share = float(size / total) if total > 0 else 0.0
            rows.append({"strategy": strategy, "setting": name, "importance": share, "n_trials": len(mine)})
    return pd.DataFrame(rows, columns=["strategy", "setting", "importance", "n_trials"])


def _numbers(values: pd.Series) -> Any:
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        numbers = pd.Series(pd.factorize(values.astype(str), sort=True)[0], index=values.index)
    array = numbers.to_numpy(float)
    return np.log(array) if (array > 0).all() and array.max() / array.min() >= 20 else array
