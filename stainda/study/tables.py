"""The tables of a run directory as DataFrames: names stay text also where they look like numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stainda.errors import RecordError

if TYPE_CHECKING:
    import pandas as pd

TEXT = frozenset({
    "annotations", "block", "centre", "class", "domain", "id", "interval_kind", "landmarks", "measure", "mpp_origin",
    "note", "object", "outline", "overlay", "path", "patient", "reason", "role", "rotation", "scanner", "selection",
    "slide", "source", "split", "stain", "state", "status", "strategy", "target",
})  # fmt: skip
"""Columns of text; an empty cell of theirs is ``""``. In the other columns it is NaN."""


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file of a run directory, its columns of :data:`TEXT` as text: patient ``007`` stays ``007``.

    Raises:
        RecordError: it is not there yet, or is no table.
    """
    import pandas as pd

    if not path.is_file():
        raise RecordError(
            f"there is no {path.name} here yet", file=path, remedy="Run the study to its end: 'stainda run'"
        )
    try:
        columns = list(pd.read_csv(path, nrows=0).columns)
        text = [name for name in columns if name in TEXT]
        empty = {name: [""] for name in columns if name not in TEXT}
        return pd.read_csv(
            path, dtype=dict.fromkeys(text, str), na_values=empty, keep_default_na=False, low_memory=False
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordError(f"not a readable table ({error})", file=path, remedy="Run the stage again") from error


def read_quality(root: Path) -> pd.DataFrame:
    """``registration/quality.csv``: one row per section laid on its block's reference."""
    return read_table(root / "registration" / "quality.csv")


def read_propagation(root: Path) -> pd.DataFrame:
    """``annotations/propagation.csv``: one row per object and target; of a study that rotates, of all rotations."""
    import pandas as pd

    own = root / "annotations" / "propagation.csv"
    tables = sorted(root.glob("rotations/*/annotations/propagation.csv"))
    if own.is_file() or not tables:
        return read_table(own)
    return pd.concat([read_table(table) for table in tables], ignore_index=True)


def read_results(root: Path) -> pd.DataFrame:
    """``results.csv``: one row per strategy, domain, class, selection rule and measure."""
    return read_table(root / "results.csv")


def read_cohort(root: Path) -> pd.DataFrame:
    """``cohort.csv``: one row per section, with its split and the role of its domain."""
    return read_table(root / "cohort.csv")


def read_records(root: Path) -> pd.DataFrame:
    """``records.parquet``: one row per training, checkpoint, slide, class and measure."""
    from stainda.evaluation import read_records

    return read_records(root / "records.parquet")


def read_objects(root: Path) -> pd.DataFrame:
    """``objects.parquet``: one row per object found or annotated on a scored slide."""
    from stainda.evaluation import OBJECT_COLUMNS, read_evidence

    check_not_rotating(root, Path("objects.parquet"), "the objects")
    return read_evidence(root / "objects.parquet", OBJECT_COLUMNS)


def check_not_rotating(root: Path, name: Path, what: str) -> None:
    """Refuse a study of several rotations where it has ``name`` in each of them instead of its own.

    Raises:
        RecordError: it is such a study.
    """
    rotations = sorted((root / "rotations").glob(f"*/{name.as_posix()}"))
    if rotations and not (root / name).exists():
        place = root / rotations[0].relative_to(root).parents[len(name.parts) - 1]
        raise RecordError(
            f"a study of several rotations has {what} in each of them", file=root,
            remedy=f"Name one of its rotations, such as {place}",
        )  # fmt: skip
