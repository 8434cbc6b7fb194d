"""Which alignment methods act at the weights of their files: share of the task's gradient, discriminators, distances.

    python benchmarks/alignment_effect.py --out runs/alignment_effect

Trains every strategy with an alignment part that learns from source labels, one setting and one seed, on the synthetic
cohort of studies/quickstart.yaml (sections are laid on each other by their known frame, so VALIS is not needed), and
prints one row per strategy: OUT/alignment_effect.csv. Trainings already done are used again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from stainda.config import available, load_strategy
from stainda.evaluation.effect import EFFECT_SUMMARY_COLUMNS, judge_effect
from stainda.files import write_csv
from stainda.strategies import build
from stainda.study import run_study
from stainda.training import Job

ROOT = Path(__file__).parents[1]


def aligning() -> list[str]:
    """Strategies of segmentation that align with unlabelled targets and learn from source labels alone."""
    built = {name: build(load_strategy(name)) for name in sorted(available("strategies"))}
    return [
        name
        for name, one in built.items()
        if "segmentation" in one.align.tasks
        and one.align.adds_loss
        and one.labels.name == "source"
        and not one.align.needs_pairs
        if one.align.grouping is None  # these compare several sources, and here is one
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/alignment_effect"), help="run directory")
    parser.add_argument("--strategies", nargs="*", default=None, help="default: all that align")
    parser.add_argument("--epochs", type=int, default=6, help="of 20 steps")
    parser.add_argument("overrides", nargs="*", help="further changes to the study, KEY=VALUE")
    options = parser.parse_args()
    names = options.strategies or aligning()
    run = run_study(
        ROOT / "studies" / "quickstart.yaml",
        options.out,
        overrides=[
            f"strategies=[{','.join(['source_only', *names])}]", "ceiling=source_only", "registration.method=identity",
            "search.trials=1", "protocol.seeds=1", f"training.epochs={options.epochs}", "workers=1", *options.overrides,
        ],
        until="train",
    )  # fmt: skip
    found = []
    for folder in sorted((run / "jobs").iterdir()):
        if (folder / "effect.csv").is_file() and (folder / "result.json").is_file():
            found.append(judge_effect(Job.load(folder).strategy.name, pd.read_csv(folder / "effect.csv")))
    found.sort(key=lambda one: one.gradient_ratio)
    write_csv(run / "alignment_effect.csv", map(vars, found), EFFECT_SUMMARY_COLUMNS)
    columns = ("gradient_ratio", "largest_ratio", "discriminator_accuracy", "distance_first", "distance_last")
    sys.stdout.write(f"{'strategy':28}" + "".join(f"{name:>23}" for name in columns) + "\n")
    for one in found:
        sys.stdout.write(f"{one.strategy:28}" + "".join(f"{getattr(one, name):23.4f}" for name in columns))
        sys.stdout.write(f"  {one.reason}\n")


if __name__ == "__main__":
    main()
