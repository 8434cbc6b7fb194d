"""Chosen trainings that were made again from all patients of the source: which they are, and what they repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stainda.files import write_csv
from stainda.study.folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

REFITS = "refits.csv"
REFIT_COLUMNS = ("strategy", "trial", "seed", "job", "repeats", "state", "seconds", "cpu_seconds", "reason")


def write_refits(rows: Sequence[dict[str, Any]], folder: RunFolder) -> None:
    """Write ``refits.csv``; nothing where the study asks for none, and an earlier one then goes."""
    path = folder.root / REFITS
    if not rows:
        path.unlink(missing_ok=True)
        return
    shown = [{name: row.get(name) for name in REFIT_COLUMNS} for row in rows]
    write_csv(path, sorted(shown, key=lambda row: (row["strategy"], row["seed"])), REFIT_COLUMNS)


def read_refits(folder: RunFolder) -> pd.DataFrame:
    """The rows of ``refits.csv`` whose trainings are complete; none where there is no such file."""
    import pandas as pd

    path = folder.root / REFITS
    if not path.is_file():
        return pd.DataFrame(columns=list(REFIT_COLUMNS))
    rows = pd.read_csv(path, dtype={"job": str, "repeats": str})
    return rows[rows["state"] == "complete"]
