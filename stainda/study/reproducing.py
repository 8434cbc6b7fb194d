"""A run made once more from its run directory, and its records compared with those that are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.errors import StaindaError
from stainda.names import ending
from stainda.progress import SILENT, Progress
from stainda.run_directory.folder import RunFolder, read_study
from stainda.run_directory.result_tables import RECORDS
from stainda.run_directory.slide_level_tables import SLIDE_SCORES
from stainda.study.other_versions import changed_versions, read_environment

if TYPE_CHECKING:
    import pandas as pd

_NAMES = ("job",)  # of a training: other code may name the same settings otherwise


@dataclass(frozen=True)
class RecordsComparison:
    """Records of one table in both runs.

    Attributes:
        table: its path below the run directory. rows: of the first run.
        missing, added: rows (by everything but their numbers) that only the first, only the second run has.
        changed: rows whose numbers differ. largest: difference of such a number; counts are left out.
    """

    table: str
    rows: int
    missing: int
    added: int
    changed: int
    largest: float

    @property
    def is_same(self) -> bool:
        return not (self.missing or self.added or self.changed)


@dataclass(frozen=True)
class Reproduction:
    """A run and what came out when it was made again. ``versions``: those that differ, as (then, now) by package."""

    out: Path
    comparisons: tuple[RecordsComparison, ...]
    versions: dict[str, tuple[Any, Any]]

    @property
    def is_same(self) -> bool:
        return all(comparison.is_same for comparison in self.comparisons)


def reproduce(run: str | Path, out: str | Path | None = None, progress: Progress = SILENT) -> Reproduction:
    """Run the study of a run directory again, as its ``study.yaml`` says, and compare every record, to the bit.

    Args:
        run: a run directory with records. out: where it is made again; default: next to it, ``NAME_again``. A run that
            is begun there goes on.

    Raises:
        StaindaError: it is no run directory, has no records yet, or cannot be run (its slides are gone).
    """
    from stainda.study.dispatch import run_study

    root = Path(run)
    config = read_study(root)
    tables = sorted(
        path.relative_to(root)
        for table in (RECORDS, SLIDE_SCORES)
        for path in (*root.glob(table.path), *root.glob(f"rotations/*/{table.path}"))
    )
    if not tables:
        raise StaindaError("this run has no records yet", file=root, remedy="Run it to its end first: 'stainda run'")
    target = Path(out) if out is not None else root.with_name(f"{root.resolve().name}_again")
    if target.resolve() == root.resolve():
        raise StaindaError("a run cannot be made again in its own directory", file=target, remedy="Give another --out")
    run_study(config, target, until="evaluate", progress=progress)
    comparisons = tuple(compare_records(root, target, table) for table in tables)
    then, now = (read_environment(RunFolder(folder)) for folder in (root, target))
    return Reproduction(target, comparisons, changed_versions(then, now))


def compare_records(first: Path, second: Path, table: Path) -> RecordsComparison:
    """Compare one table of records of two runs."""
    import pandas as pd

    read = pd.read_csv if ending(table) == ".csv" else pd.read_parquet
    before = read(first / table)
    if not (second / table).is_file():
        return RecordsComparison(table.as_posix(), len(before), len(before), 0, 0, 0.0)
    after = read(second / table)
    numbers = [name for name in before.columns if pd.api.types.is_float_dtype(before[name])]
    counts = [name for name in before.columns if name in ("tp", "fp", "fn", "tn")]
    values = list(dict.fromkeys([*numbers, *counts]))
    keys = [name for name in before.columns if name not in (*values, *_NAMES)]
    if missing := [name for name in before.columns if name not in after.columns]:
        raise StaindaError(f"columns {', '.join(missing)} are no longer written", file=second / table)
    both = _numbered(before, keys).merge(
        _numbered(after, keys), on=[*keys, "_number"], how="outer", indicator="_where", suffixes=("", "_again")
    )
    shared = both[both["_where"] == "both"]
    differs = pd.Series(False, index=shared.index)
    for name in values:
        then, now = shared[name], shared[f"{name}_again"]
        differs |= (then != now) & ~(then.isna() & now.isna())
    sides = both["_where"].value_counts()
    gaps = [(shared[name] - shared[f"{name}_again"]).abs().max() for name in numbers if name not in counts]
    return RecordsComparison(
        table.as_posix(), len(before), int(sides["left_only"]), int(sides["right_only"]), int(differs.sum()),
        max((float(gap) for gap in gaps if pd.notna(gap)), default=0.0),
    )  # fmt: skip


def _numbered(records: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Rows that share all their names are numbered by their place among each other."""
    return records.assign(_number=records.groupby(keys, dropna=False).cumcount())
