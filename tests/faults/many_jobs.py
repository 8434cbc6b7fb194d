"""The same study in one process, and on PostgreSQL and Dask with two workers: time, and whether the records are equal.

``python tests/faults/many_jobs.py`` makes a tiny cohort, cuts its patches once, and trains four strategies with 50
trials each (drawn by ``tpe`` in batches of ten) both ways: 200 real trainings of a tiny network, each scored on
whole slides.
PostgreSQL is that of Debian's package, Dask a scheduler and two workers of this machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1]), str(HERE)]

STRATEGIES = ("source_only", "greyscale", "colour_jitter", "adabn")
TEXT = """study: many
manifest: {manifest}
registration: {{method: identity}}
task: glomeruli_segmentation
model: {{name: unet, params: {{depth: 2, width: 4}}}}
patches: {{mpp: 4.0, size: 32, min_per_slide: 6}}
protocol: {{sources: [PAS@A], seeds: 1, split: [0.4, 0.3, 0.3]}}
search: {{trials: TRIALS, batch: BATCH}}
training:
  epochs: 1
  steps_per_epoch: 4
  batch_size: 4
  learning_rate: {{default: 5.0e-3, low: 1.0e-4, high: 1.0e-1, log: true}}
strategies: [STRATEGIES]
"""


@dataclass(frozen=True)
class Timed:
    """Trainings that are complete, wall-clock seconds of the stage, CPU seconds of all trainings, and the load."""

    way: str
    trainings: int
    seconds: float
    cpu_seconds: float
    load: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="of each of the four strategies")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    import postgres
    from dask_cluster import cluster
    from small_cohorts import make_blob_cohort

    from stainda.study import run_study

    if reason := postgres.missing():
        print(reason)
        return 2
    with tempfile.TemporaryDirectory(prefix="stainda-many-") as name:
        root = Path(name)
        root.chmod(0o755)
        study = root / "many.yaml"
        text = TEXT.format(manifest=make_blob_cohort(root / "cohort", patients=3))
        for key, value in (("TRIALS", given.trials), ("BATCH", given.batch), ("STRATEGIES", ", ".join(STRATEGIES))):
            text = text.replace(key, str(value))
        study.write_text(text)
        patches = run_study(study, root / "patches", until="patches")
        alone = timed("one process, SQLite", study, patches, root / "alone", ["workers=1"])
        print(shown(alone), flush=True)
        with postgres.server() as server, cluster(given.workers, root) as dask:
            engine = f"engine={{name: dask, scheduler: '{dask.address}'}}"
            overrides = [engine, f"workers={given.workers}", f"search.storage={server.address}"]
            way = f"Dask with {given.workers} workers, PostgreSQL"
            shared = timed(way, study, patches, root / "shared", overrides)
        print(shown(shared))
        equal = same_records(root / "alone", root / "shared")
        print(f"speed-up {alone.seconds / shared.seconds:.2f}; records and trials {'equal' if equal else 'DIFFER'}")
    return 0 if equal else 1


def timed(way: str, study: Path, patches: Path, out: Path, overrides: list[str]) -> Timed:
    import pandas as pd

    from stainda.study import run_study

    shutil.copytree(patches, out)
    started = time.monotonic()
    run_study(study, out, overrides=overrides, until="train")
    seconds = time.monotonic() - started
    load = os.getloadavg()[1]
    trials = pd.read_csv(out / "trials.csv")
    done = trials[trials["state"] == "complete"]
    return Timed(way, len(done), seconds, float(done["cpu_seconds"].sum()), load)


def shown(row: Timed) -> str:
    return (
        f"| {row.way} | {row.trainings} | {row.seconds:.0f} s | {3600 * row.trainings / row.seconds:.0f} an hour | "
        f"{row.cpu_seconds:.0f} s | {row.load:.1f} |"
    )


def same_records(first: Path, second: Path) -> bool:
    """Whether trials, their settings and scores, and the records of every training are equal to the bit."""
    import pandas as pd

    tables = []
    for root in (first, second):
        trials = pd.read_csv(root / "trials.csv", dtype={"job": str})
        columns = ["strategy", "trial", "seed", "job", "state", "value", "params", "chosen"]
        done = trials.loc[trials["state"] == "complete", "job"]
        records = [pd.read_parquet(root / "jobs" / job / "records.parquet") for job in done]
        tables.append((trials[columns], pd.concat(records, ignore_index=True)))
    (trials, records), (others, other_records) = tables
    return bool(trials.equals(others) and records.equals(other_records) and (trials["state"] == "complete").all())


if __name__ == "__main__":
    sys.exit(main())
