"""Records: the only thing evaluation hands on.

One row per study, strategy, trial, seed, checkpoint, slide, class and measure, with raw counts next to the value, so
that any statistic can be made later without masks. Stored as Parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stainda.errors import RecordError
from stainda.evaluation.metrics import MEASURES
from stainda.evaluation.slide import Score
from stainda.files import whole_file
from stainda.run_directory.result_tables import RECORDS

_DTYPES = {"text": "string", "integer": "int64", "number": "float64"}
RECORD_COLUMNS: dict[str, str] = {column.name: _DTYPES[column.kind] for column in RECORDS.columns}
"""Columns of records.parquet and their types, in order."""

KEY = ["strategy", "trial", "seed", "checkpoint", "slide", "class", "measure"]
"""What identifies a row within a study."""

SPLITS = ("train", "val", "test")


def make_records(
    scores: Iterable[Score],
    *,
    study: str,
    strategy: str,
    trial: int,
    seed: int,
    checkpoint: str,
    job: str,
    stain: str,
    centre: str,
    domain: str,
    patient: str,
    slide: str,
    split: str,
) -> pd.DataFrame:
    """The scores of one slide by one checkpoint, as records."""
    rows = [
        {
            "class": score.cls,
            "measure": score.measure,
            "value": score.value,
            "tp": score.tp,
            "fp": score.fp,
            "fn": score.fn,
        }
        for score in scores
    ]
    table = pd.DataFrame(rows, columns=list(RECORDS.names[-6:]))
    for name, value in {
        "study": study, "strategy": strategy, "trial": trial, "seed": seed, "checkpoint": checkpoint, "job": job,
        "stain": stain, "centre": centre, "domain": domain, "patient": patient, "slide": slide, "split": split,
    }.items():  # fmt: skip
        table[name] = value
    return as_records(table)


def empty_records() -> pd.DataFrame:
    return as_records(pd.DataFrame({name: [] for name in RECORD_COLUMNS}))


def as_records(table: pd.DataFrame, file: str | Path | None = None) -> pd.DataFrame:
    """Check a table against the contract and return it with the contract's columns first, in their types.

    Raises:
        RecordError: every fault at once: missing columns, text where numbers belong, unknown splits, negative counts,
            values out of the measure's range, rows given twice.
    """
    missing = [name for name in RECORD_COLUMNS if name not in table.columns]
    if missing:
        raise RecordError(
            f"not a table of records: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing",
            file=file,
            remedy=f"Records have the columns {', '.join(RECORD_COLUMNS)}",
        )
    faults: list[str] = []
    out = pd.DataFrame(index=pd.RangeIndex(len(table)))
    for name, kind in RECORD_COLUMNS.items():
        values = table[name].reset_index(drop=True)
        if kind == "string":
            if values.isna().any():
                faults.append(f"column {name!r} has {int(values.isna().sum())} empty cells")
            out[name] = values.astype(object).where(values.notna(), "").astype(str)
            continue
        numbers = pd.to_numeric(values, errors="coerce")
        if (bad := values.notna() & numbers.isna()).any():
            faults.append(f"column {name!r} holds text, for example {values[bad].iloc[0]!r}")
        elif kind == "int64" and (numbers.isna().any() or (numbers % 1 != 0).any()):
            faults.append(f"column {name!r} must hold whole numbers")
        out[name] = numbers.fillna(0).astype("int64") if kind == "int64" else numbers.astype(float)
    faults += _value_faults(out)
    if faults:
        raise RecordError("; ".join(faults), file=file, remedy="Make the records again with 'stainda run'")
    extra = [name for name in table.columns if name not in RECORD_COLUMNS]
    return pd.concat([out, table[extra].reset_index(drop=True)], axis=1)


def _value_faults(table: pd.DataFrame) -> list[str]:
    faults: list[str] = []
    if unknown := sorted(set(table["split"]) - set(SPLITS)):
        faults.append(f"unknown split {', '.join(map(repr, unknown))} (known: {', '.join(SPLITS)})")
    for name in ("tp", "fp", "fn"):
        if (table[name] < 0).any() or np.isinf(table[name]).any():
            faults.append(f"column {name!r} holds counts that are negative or infinite")
    for measure, rows in table.groupby("measure"):
        known = MEASURES.get(str(measure))
        if known is None:
            continue  # a measure of a later version is kept
        low = -np.inf if known.low is None else known.low
        high = np.inf if known.high is None else known.high
        if ((rows["value"] < low - 1e-9) | (rows["value"] > high + 1e-9)).any():
            faults.append(f"values of {measure!r} lie outside [{low}, {high}]")
    twice = table.duplicated([*KEY, "study"])
    if twice.any():
        row = table[twice].iloc[0]
        where = ", ".join(f"{name}={row[name]}" for name in KEY)
        faults.append(f"{int(twice.sum())} rows are given twice, for example {where}")
    return faults


def write_records(records: pd.DataFrame, path: str | Path) -> Path:
    """Write records as Parquet, whole or not at all."""
    checked = as_records(records, path)
    with whole_file(path) as aside:
        checked.to_parquet(aside, index=False)
    return Path(path)


def read_records(path: str | Path) -> pd.DataFrame:
    """Read and check records.

    Raises:
        RecordError: there is no such file, it is not Parquet, or it breaks the contract (see :func:`as_records`).
    """
    path = Path(path)
    if not path.is_file():
        raise RecordError("there is no such file", file=path, remedy="Run the evaluation first")
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises many kinds; all mean the same to a person
        raise RecordError(
            f"not a readable Parquet file ({str(error).splitlines()[0]})", file=path, remedy="Evaluate again"
        ) from error
    return as_records(table, path)


def gather_records(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Records of several jobs as one table, in a fixed order."""
    tables = [table for table in tables if len(table)]
    if not tables:
        return empty_records()
    return as_records(pd.concat(tables, ignore_index=True).sort_values(KEY, kind="stable", ignore_index=True))
