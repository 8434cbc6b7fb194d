"""The tables of a run directory as DataFrames: names stay text also where they look like numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stainda.errors import RecordError
from stainda.run_directory.result_tables import OBJECTS, RECORDS, RESULTS
from stainda.run_directory.tables import COHORT, PROPAGATION, QUALITY

if TYPE_CHECKING:
    import pandas as pd


def read_quality(root: Path) -> pd.DataFrame:
    """``registration/quality.csv``: one row per section laid on its block's reference."""
    return QUALITY.read_file(QUALITY.at(root))


def read_propagation(root: Path) -> pd.DataFrame:
    """``annotations/propagation.csv``: one row per object and target; of a study that rotates, of all rotations."""
    import pandas as pd

    own = PROPAGATION.at(root)
    tables = sorted(root.glob(f"rotations/*/{PROPAGATION.path}"))
    if own.is_file() or not tables:
        return PROPAGATION.read_file(own)
    return pd.concat([PROPAGATION.read_file(table) for table in tables], ignore_index=True)


def read_results(root: Path) -> pd.DataFrame:
    """``results.csv``: one row per strategy, domain, class, selection rule and measure."""
    return RESULTS.read(root)


def read_cohort(root: Path) -> pd.DataFrame:
    """``cohort.csv``: one row per section, with its split and the role of its domain."""
    return COHORT.read(root)


def read_records(root: Path) -> pd.DataFrame:
    """``records.parquet``: one row per training, checkpoint, slide, class and measure."""
    from stainda.evaluation import read_records

    return read_records(RECORDS.at(root))


def read_objects(root: Path) -> pd.DataFrame:
    """``objects.parquet``: one row per object found or annotated on a scored slide."""
    from stainda.evaluation import read_evidence

    check_not_rotating(root, Path(OBJECTS.path), "the objects")
    return read_evidence(OBJECTS.at(root), OBJECTS.names)


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


def propagated_members(root: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """Of each propagated object, by its slide and id, the annotations it was made from: ``SLIDE<tab>ID`` each."""
    members: dict[tuple[str, str], list[str]] = {}
    if not PROPAGATION.at(root).is_file():
        return {}
    for row in PROPAGATION.rows(PROPAGATION.at(root).parent):
        if row["object"]:
            members.setdefault((row["target"], row["object"]), []).append(f"{row['source']}\t{row['id']}")
    return {target: tuple(sorted(set(keys))) for target, keys in members.items()}
