"""What a search has seen, as tables: how much each setting mattered, and the score at each of its values tried."""

from __future__ import annotations

from collections.abc import Mapping

from stainda.files import write_csv
from stainda.study.folder import RunFolder
from stainda.study.search import StrategySearch

IMPORTANCE_COLUMNS = ("strategy", "setting", "importance", "n_trials", "note")
SLICE_COLUMNS = ("strategy", "trial", "setting", "value", "score", "second_score")


def write_search_tables(folder: RunFolder, searches: Mapping[str, StrategySearch]) -> None:
    """Write ``search/importance.csv`` and ``search/slices.csv``.

    ``importance`` is the share of the variance of the first objective that a setting explains (fANOVA), by strategy;
    the scores are those on source validation that the search itself saw. Trials that were pruned or failed are in
    neither table.
    """
    importance, slices = [], []
    for strategy, search in searches.items():
        complete = search.completed()
        found = search.importances()
        note = "" if found else "fewer than four completed trials, or all of one score: nothing can be said"
        if found and len(complete) < 10:
            note = f"{len(complete)} trials say little"
        for setting in sorted(search.space, key=lambda name: -found.get(name, 0.0)):
            share = round(found[setting], 4) if setting in found else None
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
    write_csv(folder.root / "search" / "importance.csv", importance, IMPORTANCE_COLUMNS)
    write_csv(folder.root / "search" / "slices.csv", slices, SLICE_COLUMNS)
