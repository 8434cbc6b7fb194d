"""What choosing the epoch on source validation is worth: Dice of the last step less that of the validated epoch.

    python benchmarks/last_step.py RUN [RUN ...]

Of every training of finished runs, the mean over the test patients of each domain, then over domains. A line per run
with the number of trainings and the mean difference, and the mean over all trainings. It reads test scores to describe
the rule, and chooses nothing by them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from stainda.evaluation import read_records
from stainda.run_directory.result_tables import RECORDS

TRAINING = ["strategy", "trial", "seed", "job"]


def differences(run: Path) -> pd.Series:
    """Last step less validated epoch, by training."""
    records = read_records(RECORDS.at(run))
    rows = records[(records["measure"] == "dice") & (records["split"] == "test")]
    by_patient = rows.groupby([*TRAINING, "domain", "checkpoint", "patient"])["value"].mean()
    both = by_patient.groupby([*TRAINING, "domain", "checkpoint"]).mean().unstack()
    return (both["last"] - both["best"]).groupby(TRAINING).mean().dropna()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    every = []
    for run in parser.parse_args().runs:
        difference = differences(run)
        worst = difference.groupby("strategy").mean()
        print(f"{run}: {len(difference)} trainings, {difference.mean():+.3f}; by strategy {worst.min():+.3f} "
              f"({worst.idxmin()}) to {worst.max():+.3f} ({worst.idxmax()})")  # fmt: skip
        every.append(difference)
    together = pd.concat(every)
    print(f"all: {len(together)} trainings, {together.mean():+.4f}")


if __name__ == "__main__":
    main()
