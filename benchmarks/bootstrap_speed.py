"""Patient bootstrap of all strategies and domains: the matrix product of stainda next to the loop people write.

    python benchmarks/bootstrap_speed.py

10 strategies × 10 domains × 50 patients, 1,000 resamples; the pandas loop is timed on few resamples and scaled.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from stainda.evaluation import intervals


def pandas_loop(table: pd.DataFrame, resamples: int, generator: np.random.Generator) -> pd.DataFrame:
    patients = table["patient"].unique()
    by_patient = {name: rows for name, rows in table.groupby("patient")}
    means = []
    for _ in range(resamples):
        drawn = pd.concat([by_patient[name] for name in generator.choice(patients, len(patients))])
        means.append(drawn.groupby(["strategy", "domain"])["value"].mean())
    return pd.concat(means, axis=1).quantile([0.025, 0.975], axis=1).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", type=int, default=10)
    parser.add_argument("--domains", type=int, default=10)
    parser.add_argument("--patients", type=int, default=50)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--loop-resamples", type=int, default=20, help="resamples of the loop, scaled up")
    settings = parser.parse_args()
    cells = settings.strategies * settings.domains
    scores = np.random.default_rng(0).beta(6, 2, (settings.patients, cells))
    times = {}
    for method in ("percentile", "expanded", "bca"):
        started = time.perf_counter()
        found = intervals(scores, np.random.default_rng(1), resamples=settings.resamples, method=method)
        times[method] = time.perf_counter() - started
    patient, cell = np.meshgrid(np.arange(settings.patients), np.arange(cells), indexing="ij")
    table = pd.DataFrame(
        {
            "patient": patient.ravel(), "strategy": (cell // settings.domains).ravel(),
            "domain": (cell % settings.domains).ravel(), "value": scores.ravel(),
        }
    )  # fmt: skip
    started = time.perf_counter()
    pandas_loop(table, settings.loop_resamples, np.random.default_rng(1))
    loop = (time.perf_counter() - started) * settings.resamples / settings.loop_resamples
    print(f"{cells} cells, {settings.patients} patients, {settings.resamples} resamples; {len(found.mean)} intervals")
    for method, seconds in times.items():
        print(f"stainda, {method:10} {seconds:8.3f} s   ratio to the loop {loop / seconds:8.0f}")
    print(f"pandas loop         {loop:8.3f} s   (from {settings.loop_resamples} resamples)")


if __name__ == "__main__":
    main()
