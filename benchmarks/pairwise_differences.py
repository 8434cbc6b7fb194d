"""Differences between strategies of finished runs other than to the study's baseline, as the page compares with that.

    python benchmarks/pairwise_differences.py runs/stains_and_centres --against adabn colour_everything
    python benchmarks/pairwise_differences.py runs/stains_and_centres --against source_only@random --other runs/random

One row per strategy against each of ``--against``: Dice over all targets, paired by patient, with the interval over
patients and trainings and p after Holm's correction for all strategies without target labels. ``--other`` adds the
strategies of another run on the same cohort, as ``NAME@FOLDER``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from stainda.config import StrategyConfig
from stainda.evaluation import ALL_TARGETS, analyse, one_rotation, read_records
from stainda.evaluation.selection import DEFAULT_RULE
from stainda.run_directory.folder import read_study
from stainda.run_directory.result_tables import RECORDS
from stainda.run_directory.training_tables import TRIALS

COLUMNS = ("strategy", "baseline", "difference", "low", "high", "p", "p_holm", "n_patients", "n_seeds")


def read_run(run: Path, mark: str = "") -> tuple[list[StrategyConfig], pd.DataFrame, pd.DataFrame]:
    """Strategies, records and trials of a run, the strategies' names with ``mark`` behind them."""
    strategies = [
        strategy.model_copy(update={"name": f"{strategy.name}{mark}"}) for strategy in read_study(run).strategies
    ]
    tables = [read_records(RECORDS.at(run)), pd.read_csv(TRIALS.at(run), dtype={"job": str})]
    records, trials = (table.assign(strategy=table["strategy"].astype(str) + mark) for table in tables)
    return strategies, records, trials


def differences(run: Path, against: list[str], other: Path | None = None) -> pd.DataFrame:
    """The table of :data:`COLUMNS`."""
    parts = [read_run(run), *([] if other is None else [read_run(other, f"@{other.name}")])]
    study = read_study(run).model_copy(update={"strategies": tuple(one for part in parts for one in part[0])})
    records, trials = (pd.concat([part[index] for part in parts], ignore_index=True) for index in (1, 2))
    tables = []
    for baseline in against:
        config = study.model_copy(update={"baseline": baseline})
        found = analyse([one_rotation(records, config, trials)], config).differences
        shown = found["measure"].eq("dice") & found["domain"].eq(ALL_TARGETS) & found["selection"].eq(DEFAULT_RULE)
        tables.append(found.loc[shown, list(COLUMNS)])
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory of 'stainda run', of one rotation")
    parser.add_argument("--against", nargs="+", required=True, help="names of strategies")
    parser.add_argument("--other", type=Path, help="another run directory, on the same cohort")
    options = parser.parse_args()
    print(differences(options.run, options.against, options.other).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
