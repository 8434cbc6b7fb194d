"""Makes the recorded study next to this file: ``python tests/report/golden/make_golden.py`` (from the repository).

Records are drawn once with a fixed seed; ``results.csv``, ``effects.csv``, ``ranks.csv``, ``variance.csv`` and
``differences.csv`` are what the statistics said of them when they were recorded. Make them again only when a statistic
is meant to change, and say so in the commit.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "evaluation"))

from record_makers import counts_for, rows_of, study_config  # noqa: E402

from stainda.evaluation import analyse, as_records, one_rotation, write_records  # noqa: E402
from stainda.evaluation.insights import insights  # noqa: E402

STRATEGIES = ("source_only", "macenko", "dann", "oracle")
LEVELS = {"PAS@A": 0.88, "SR@A": 0.55, "SR@B": 0.5, "CD68@A": 0.4}


def config():
    return study_config(STRATEGIES, evaluation={"resamples": 300})


def make_records() -> pd.DataFrame:
    """Four strategies, two trials of one of them, two seeds, seven test patients of two centres, one score missing."""
    draw = np.random.default_rng(2024)
    rows: list[dict] = []
    shift = {f"p{index}": draw.normal(0, 0.04) for index in range(7)}
    for order, strategy in enumerate(STRATEGIES):
        for trial in range(2 if strategy == "dann" else 1):
            for seed in range(2):
                for domain, level in LEVELS.items():
                    for patient, moved in shift.items():
                        if domain.endswith("B") != (int(patient[1]) > 4):
                            continue
                        gain = {"oracle": 1.0}.get(strategy, 0.12 * order) * (0.88 - level) - 0.03 * trial
                        score = float(np.clip(level + gain + moved + draw.normal(0, 0.07), 0.01, 0.99))
                        hits = round(15 * score)
                        rows += rows_of(strategy, domain, patient, tuple(map(round, counts_for(score))),
                                        (hits, round(3 * (1 - score)), 15 - hits), trial=trial, seed=seed)  # fmt: skip
                    if domain == "PAS@A":
                        rows += rows_of(strategy, domain, "v1", tuple(map(round, counts_for(level - 0.02 * trial))),
                                        (12, 1, 3), split="val", trial=trial, seed=seed)  # fmt: skip
    table = pd.DataFrame(rows)
    return as_records(table[~((table["strategy"] == "macenko") & (table["patient"] == "p6"))])


def tables(records: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What the statistics say of the records."""
    analysis = analyse([one_rotation(records, config())], config())
    found = insights(analysis, config())
    ranks = pd.DataFrame({"strategy": found.strategies, "rank": found.ranking.ranks, "n": found.ranking.n,
                          "p_to_first": found.ranking.pairwise[:, 0]})  # fmt: skip
    return {"results": analysis.results, "differences": analysis.differences, "gaps": analysis.gaps,
            "effects": found.effects, "variance": found.variance, "ranks": ranks}  # fmt: skip


def main() -> None:
    records = make_records()
    write_records(records, HERE / "records.parquet")
    for name, table in tables(records).items():
        table.to_csv(HERE / f"{name}.csv", index=False, float_format="%.10g")


if __name__ == "__main__":
    main()
