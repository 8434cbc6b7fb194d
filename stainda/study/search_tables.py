"""What a search has seen, as tables: how much each setting mattered, and the score at each of its values tried."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from stainda.run_directory.folder import RunFolder
from stainda.run_directory.result_tables import IMPORTANCE, SLICES
from stainda.study.search import StrategySearch


def write_search_tables(
    folder: RunFolder, searches: Mapping[str, StrategySearch], earlier: Collection[str] = ()
) -> None:
    """Write ``search/importance.csv`` and ``search/slices.csv``; rows of the strategies ``earlier`` stay as they are.

    ``importance`` is the share of the variance of the first objective that a setting explains (fANOVA), by strategy;
    the scores are those on source validation that the search itself saw. Trials that were pruned or failed are in
    neither table.
    """
    importance: list[dict[str, Any]] = []
    slices: list[dict[str, Any]] = []
    for strategy, search in searches.items():
        complete = search.completed()
        importances = search.importances()
        note = "" if importances else "fewer than four completed trials, or all of one score: nothing can be said"
        if importances and len(complete) < 10:
            note = f"{len(complete)} trials say little"
        for setting in sorted(search.space, key=lambda name: -importances.get(name, 0.0)):
            share = round(importances[setting], 4) if setting in importances else None
            importance.append(
                {
                    "strategy": strategy, "setting": setting, "importance": share, "n_trials": len(complete),
                    "note": note,
                }
            )  # fmt: skip
            for trial in complete:
                slices.append(
                    {
                        "strategy": strategy, "trial": trial.user_attrs["index"], "setting": setting,
                        "value": trial.user_attrs["params"][setting], "score": round(trial.values[0], 6),
                        "second_score": round(trial.values[1], 6) if len(trial.values) > 1 else None,
                    }
                )  # fmt: skip
    tables = ((IMPORTANCE, importance), (SLICES, slices))
    for table, rows in tables:
        path = table.at(folder.root)
        table.write(path.parent, [*rows, *_rows_of(path, earlier)])


def _rows_of(path: Path, strategies: Collection[str]) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["strategy"] in strategies]
