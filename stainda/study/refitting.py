"""Chosen trainings that were made again from all patients of the source: which they are, and what they repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stainda.run_directory.folder import RunFolder
from stainda.run_directory.training_tables import REFITS

if TYPE_CHECKING:
    import pandas as pd


def read_refits(folder: RunFolder) -> pd.DataFrame:
    """The rows of ``refits.csv`` whose trainings are complete; none where there is no such file."""
    import pandas as pd

    path = REFITS.at(folder.root)
    if not path.is_file():
        return pd.DataFrame(columns=list(REFITS.names))
    rows = pd.read_csv(path, dtype={"job": str, "repeats": str})
    return rows[rows["state"] == "complete"]
