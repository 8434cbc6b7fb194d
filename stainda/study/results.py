"""From the records of all jobs to ``records.parquet`` and ``results.csv``."""

from __future__ import annotations

from stainda.config import StudyConfig
from stainda.errors import StaindaError
from stainda.files import whole_file
from stainda.study.folder import RunFolder


def gather_results(config: StudyConfig, folder: RunFolder) -> None:
    """Write ``records.parquet`` (every job in ``trials.csv``) and ``results.csv``.

    Raises:
        StaindaError: nothing has been trained here.
    """
    import pandas as pd

    from stainda.evaluation import gather_records, read_records, write_records

    path = folder.root / "trials.csv"
    if not path.is_file():
        raise StaindaError("nothing has been trained here", file=folder.root, remedy="Run 'stainda train' first")
    tables = []
    for row in pd.read_csv(path, dtype={"job": str}).itertuples():  # a hash of digits is no number
        if row.state == "complete":
            records = read_records(folder.job(str(row.job)) / "records.parquet")
            tables.append(records.assign(strategy=row.strategy, trial=row.trial, seed=row.seed))
    write_records(gather_records(tables), folder.root / "records.parquet")
    summarise_records(config, folder)


def summarise_records(config: StudyConfig, folder: RunFolder) -> None:
    """Write ``results.csv`` from ``records.parquet`` and ``trials.csv`` alone."""
    import pandas as pd

    from stainda.evaluation import read_records, summarise

    target = folder.root / "records.parquet"
    if not target.is_file():
        raise StaindaError("there are no records here yet", file=folder.root, remedy="Run 'stainda run' first")
    trials = pd.read_csv(folder.root / "trials.csv", dtype={"job": str})
    records = read_records(target)
    if not set(records["job"]) <= set(trials["job"]):
        raise StaindaError(
            "the records are of trainings made with other settings than those the run now has",
            file=target,
            remedy="Run 'stainda run' to its end first",
        )
    with whole_file(folder.root / "results.csv") as aside:
        summarise(records, trials, config).to_csv(aside, index=False)
