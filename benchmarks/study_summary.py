"""A run's results as one small table, for a repository or a paper.

    stainda run studies/phantom_strategies.yaml
    python benchmarks/study_summary.py runs/phantom_strategies --out docs/results/phantom_strategies.csv

One row per strategy, domain (``*``: all targets) and, where there are several, class (``all``: their mean), under the
default selection rule: Dice with its interval (``interval_kind`` says over what, or that it is the range of the
patients), the difference from the baseline as the page has it, paired by patient, with its own interval
(``difference_kind``) and p before and after Holm's correction, object F1, share of the gap to the ceiling that was
closed, seeds, and processor seconds of one training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from stainda.evaluation import analyse, one_rotation, read_records
from stainda.evaluation.selection import DEFAULT_RULE
from stainda.run_directory.folder import read_study
from stainda.study.pooled_tables import is_rotating

COLUMNS = (
    "strategy", "class", "stain", "centre", "role", "dice", "dice_low", "dice_high", "difference",
    "difference_low", "difference_high", "p", "p_holm", "difference_kind", "object_f1", "gap_closed", "n_patients",
    "n_seeds", "cpu_seconds", "interval_kind", "note",
)  # fmt: skip

SHARES = ("object_f1", "gap_closed")


def summary(run: Path) -> pd.DataFrame:
    """The table of a finished run; see :data:`COLUMNS`, of which ``class`` is left out where there is one."""
    if is_rotating(run):
        raise SystemExit(f"{run}: a study of several rotations has this as overall.csv and matrix.csv")
    study, trials = read_study(run), pd.read_csv(run / "trials.csv", dtype={"job": str})
    analysis = analyse([one_rotation(read_records(run / "records.parquet"), study, trials)], study)
    results = analysis.results[analysis.results["selection"] == DEFAULT_RULE]
    keys = ["strategy", "class", "domain"]
    dice = results[results["measure"] == "dice"].rename(
        columns={"mean": "dice", "low": "dice_low", "high": "dice_high"}
    )
    objects = results[results["measure"] == "object_f1"].rename(columns={"mean": "object_f1"})[[*keys, "object_f1"]]
    gaps = analysis.gaps
    gaps = gaps[(gaps["measure"] == "dice") & (gaps["selection"] == DEFAULT_RULE)][[*keys, "gap_closed"]]
    differences = analysis.differences
    differences = differences[(differences["measure"] == "dice") & (differences["selection"] == DEFAULT_RULE)].rename(
        columns={"low": "difference_low", "high": "difference_high", "interval_kind": "difference_kind"}
    )
    compared = ["difference", "difference_low", "difference_high", "p", "p_holm", "difference_kind"]
    seconds = trials.groupby("strategy")["cpu_seconds"].mean()
    table = dice.merge(objects, on=keys, how="left").merge(gaps, on=keys, how="left")
    table = table.merge(differences[[*keys, *compared]], on=keys, how="left")
    table["cpu_seconds"] = table["strategy"].map(seconds)
    together = table[table["domain"] == "all targets"].groupby("strategy")["dice"].mean()
    order = together.sort_values(ascending=False).index.tolist()
    table["_place"] = table["strategy"].map({name: place for place, name in enumerate(order)})
    table = table.sort_values(["_place", "class", "role", "centre", "stain"], kind="stable")
    columns = [name for name in COLUMNS if name != "class" or table["class"].nunique() > 1]
    rounded = {name: 4 for name in COLUMNS if name.startswith(("dice", "difference")) or name in SHARES}
    return table[columns].round(rounded | {"p": 6, "p_holm": 6})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory of 'stainda run'")
    parser.add_argument("--out", type=Path, help="write the table here; default: print it")
    settings = parser.parse_args()
    table = summary(settings.run).round({"cpu_seconds": 1})
    if settings.out is None:
        print(table.to_string(index=False))
    else:
        table.to_csv(settings.out, index=False)
        print(f"{len(table)} rows: {settings.out}")


if __name__ == "__main__":
    main()
