"""What the patches that are compared do to alignment: ``object_share`` by ``compared_patches``.

    python benchmarks/matched_sampling.py --out runs/matched_sampling

Trains source_only, adabn, mmd, dann and cdan on the synthetic cohort of studies/quickstart.yaml (sections laid on each
other by their known frame, so VALIS is not needed) with three seeds, for every combination of

- ``training.object_share`` 0.5 and 1.0: how much of a labelled batch shows an object;
- ``training.compared_patches`` tissue and labelled: whether alignment and batch statistics of the source see patches on
  tissue at random, drawn as the target's are, or the labelled batch itself.

and prints the mean Dice over all targets by seed: OUT/matched_sampling.csv. Runs already done are used again. About an
hour on one core with 24 epochs; ``--strategies``, ``--seeds`` and ``--epochs`` make it shorter.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from stainda.evaluation import read_records
from stainda.files import write_csv
from stainda.study import run_study

ROOT = Path(__file__).parents[1]
STRATEGIES = ("source_only", "adabn", "mmd", "dann", "cdan")
SOURCE = "PAS@A"
COLUMNS = ("object_share", "compared_patches", "strategy", "seed", "dice", "patients")


def target_dice(run: Path) -> pd.DataFrame:
    """Dice over the targets by strategy and seed, with the weights that source validation chose.

    Mean over the domains of each test patient, then over patients.
    """
    records = read_records(run / "records.parquet")
    asked = (records["measure"] == "dice") & (records["split"] == "test") & (records["checkpoint"] == "best")
    targets = records[asked & (records["domain"] != SOURCE)]
    by_domain = targets.groupby(["strategy", "seed", "patient", "domain"])["value"].mean()
    by_patient = by_domain.groupby(["strategy", "seed", "patient"]).mean()
    table = by_patient.groupby(["strategy", "seed"]).agg(["mean", "size"]).reset_index()
    return table.rename(columns={"mean": "dice", "size": "patients"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/matched_sampling"), help="one run directory for each")
    parser.add_argument("--strategies", nargs="*", default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=24, help="of 20 steps")
    parser.add_argument("overrides", nargs="*", help="further changes to the study, KEY=VALUE")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for share, compared in product((0.5, 1.0), ("tissue", "labelled")):
        run = run_study(
            ROOT / "studies" / "quickstart.yaml",
            options.out / f"{compared}_{share}",
            overrides=[
                f"strategies=[{','.join(options.strategies)}]", f"ceiling={options.strategies[0]}",
                "registration.method=identity", "search.trials=1", f"protocol.seeds={options.seeds}",
                f"training.epochs={options.epochs}", f"training.object_share={share}",
                f"training.compared_patches={compared}", "workers=1", *options.overrides,
            ],
            until="evaluate",
        )  # fmt: skip
        found = target_dice(run).assign(object_share=share, compared_patches=compared)
        rows += found[list(COLUMNS)].to_dict("records")
    write_csv(options.out / "matched_sampling.csv", rows, COLUMNS)
    table = pd.DataFrame(rows)
    shown = table.groupby(["strategy", "object_share", "compared_patches"])["dice"].agg(["mean", "min", "max"])
    sys.stdout.write(shown.round(3).to_string() + "\n")


if __name__ == "__main__":
    main()
