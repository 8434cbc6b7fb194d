"""The tables of a study of several rotations, made from those of the rotations alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.config import StudyConfig
from stainda.files import whole_file, write_csv
from stainda.run_directory.folder import RunFolder, read_study

if TYPE_CHECKING:
    import pandas as pd

    from stainda.evaluation import Rotation

ROTATION_COLUMNS = (
    "rotation", "group", "folder", "sources", "targets", "train", "val", "test", "state", "reason",
)  # fmt: skip
MATRIX_COLUMNS = (
    "strategy", "rotation", "sources", "target", "role", "class", "measure", "mean", "low", "high", "n_patients",
    "n_seeds", "interval_kind",
)  # fmt: skip
OVERALL_COLUMNS = (
    "strategy", "measure", "mean", "low", "high", "difference", "difference_low", "difference_high", "p", "p_holm",
    "gap_closed", "gap_closed_low", "gap_closed_high", "n_patients", "n_seeds", "n_rotations", "interval_kind", "note",
)  # fmt: skip
PRIMARY = "dice"


@dataclass(frozen=True)
class Turn:
    """A rotation that has been run: its row of rotations.csv, its run directory and its study."""

    name: str
    group: str
    folder: RunFolder
    config: StudyConfig
    sources: tuple[str, ...]
    targets: tuple[str, ...]


def is_rotating(root: Path) -> bool:
    """Whether a run directory is that of a study of several rotations."""
    return (root / "rotations.csv").is_file()


def read_turns(root: Path) -> list[Turn]:
    """The rotations of a run directory that were begun, in their order."""
    import pandas as pd

    turns = []
    for row in pd.read_csv(root / "rotations.csv", dtype=str).fillna("").itertuples():
        folder = RunFolder(root / str(row.folder))
        if row.folder and (folder.root / "study.yaml").is_file():
            sources, targets = (tuple(filter(None, str(cell).split("; "))) for cell in (row.sources, row.targets))
            turns.append(Turn(str(row.rotation), str(row.group), folder, _reported(folder.root), sources, targets))
    return turns


def _reported(root: Path, *inner: Path) -> StudyConfig:
    """The study of a run directory with the strategies of earlier calls that its trials.csv still holds."""
    import pandas as pd

    from stainda.report.run import with_earlier_strategies

    config, path = read_study(root), root / "trials.csv"
    if not path.is_file():
        return config
    return with_earlier_strategies(config, pd.read_csv(path, dtype={"job": str}), root, *inner)


def combine(root: Path) -> None:
    """Write the root's tables from what the rotations have so far.

    ``trials.csv``, ``records.parquet`` and ``results.csv`` are those of the rotations below each other, with a leading
    column ``rotation``; where there are folds, results.csv has further rows in which the patients of all folds of the
    same sources are one cohort, each with the scores of the fold that tested it. ``matrix.csv`` is the primary measure
    from sources to targets, ``overall.csv`` its mean over patients of what they scored as targets in all rotations.
    """
    import pandas as pd

    turns = read_turns(root)
    with_trials = [turn for turn in turns if (turn.folder.root / "trials.csv").is_file()]
    if with_trials:
        trials = [pd.read_csv(turn.folder.root / "trials.csv", dtype={"job": str}) for turn in with_trials]
        _write(_stacked(with_trials, trials), root / "trials.csv")
    done = [turn for turn in turns if (turn.folder.root / "results.csv").is_file()]
    if done:
        records = {turn.name: _records(turn) for turn in done}
        _write(_stacked(done, [records[turn.name] for turn in done]), root / "records.parquet")
        results = [_stacked(done, [pd.read_csv(turn.folder.root / "results.csv") for turn in done])]
        groups = _groups(done)
        chosen = {turn.name: _chosen(turn, records[turn.name]) for turn in done}
        for group, members in groups.items():
            if len(members) > 1:
                results.append(_pooled(group, members, chosen))
        reported = _reported(root, *(turn.folder.root for turn in done))
        table = pd.concat(results, ignore_index=True)
        _write(table, root / "results.csv")
        write_csv(root / "matrix.csv", _matrix(table, groups), MATRIX_COLUMNS)
        write_csv(root / "overall.csv", _overall(done, records, reported), OVERALL_COLUMNS)


def _groups(turns: Iterable[Turn]) -> dict[str, list[Turn]]:
    """Rotations by group: those that differ by their fold only."""
    found: dict[str, list[Turn]] = defaultdict(list)
    for turn in turns:
        found[turn.group].append(turn)
    return dict(found)


def _records(turn: Turn) -> pd.DataFrame:
    from stainda.evaluation import read_records

    return read_records(turn.folder.root / "records.parquet")


def _stacked(turns: Sequence[Turn], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    for turn, table in zip(turns, tables, strict=True):
        if "rotation" in table.columns:
            del table["rotation"]
        table.insert(0, "rotation", turn.name)
    return pd.concat(list(tables), ignore_index=True)


def _write(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as aside:
        if path.suffix == ".parquet":
            table.to_parquet(aside, index=False)
        else:
            table.to_csv(aside, index=False)


def _chosen(turn: Turn, records: pd.DataFrame) -> pd.DataFrame:
    """The records of what source validation chose in this rotation, as if there had been one trial and checkpoint."""
    import pandas as pd

    from stainda.evaluation import chosen_records, rule, select
    from stainda.evaluation.selection import DEFAULT_RULE

    trials = pd.read_csv(turn.folder.root / "trials.csv", dtype={"job": str})
    choices = select(records, turn.sources, trials, rules=(rule(DEFAULT_RULE),))
    return chosen_records(records, choices, DEFAULT_RULE).assign(trial=0, checkpoint="best")


def _pooled(group: str, members: Sequence[Turn], chosen: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """results.csv of the folds of one set of sources as one cohort."""
    from stainda.evaluation import summarise
    from stainda.evaluation.rotations import joined_trainings
    from stainda.evaluation.selection import DEFAULT_RULE

    records = joined_trainings([chosen[turn.name] for turn in members])
    table = summarise(records, None, members[0].config)
    table = table[table["selection"] == DEFAULT_RULE].reset_index(drop=True)
    table.insert(0, "rotation", group)
    return table


def _matrix(results: pd.DataFrame, groups: dict[str, list[Turn]]) -> list[dict[str, Any]]:
    """From sources to targets; where there are folds, with the patients of all folds."""
    from stainda.evaluation.selection import DEFAULT_RULE
    from stainda.evaluation.summary import ALL_CLASSES

    rows = results[(results["selection"] == DEFAULT_RULE) & (results["measure"] == PRIMARY)]
    if (rows["class"] == ALL_CLASSES).any():
        rows = rows[rows["class"] == ALL_CLASSES]
    found = []
    for name, members in groups.items():
        shown = name if len(members) > 1 else members[0].name
        for row in rows[rows["rotation"] == shown].to_dict("records"):
            values = {key: row[key] for key in MATRIX_COLUMNS if key in row}
            found.append({**values, "sources": "; ".join(members[0].sources), "target": row["domain"]})
    return found


def _overall(turns: Sequence[Turn], records: dict[str, pd.DataFrame], config: StudyConfig) -> list[dict[str, Any]]:
    """Every strategy's mean over patients, each patient's over the rotations in which it was tested as a target."""
    from stainda.evaluation import ALL_TARGETS, analyse_rotations
    from stainda.evaluation.selection import DEFAULT_RULE
    from stainda.evaluation.summary import ALL_CLASSES

    found = analyse_rotations([as_evaluated(turn, records[turn.name]) for turn in turns], config)

    def of(table: pd.DataFrame) -> pd.DataFrame:
        rows = table[(table["measure"] == PRIMARY) & (table["selection"] == DEFAULT_RULE)]
        rows = rows[rows["domain"] == ALL_TARGETS]
        if (rows["class"] == ALL_CLASSES).any():
            rows = rows[rows["class"] == ALL_CLASSES]
        return rows.set_index("strategy")

    results, differences, gaps = (of(one) for one in (found.analysis.results, found.analysis.differences,
                                                      found.analysis.gaps))  # fmt: skip
    rows = []
    for name, result in results.iterrows():
        row = {
            "strategy": name,
            "measure": PRIMARY,
            **{key: result[key] for key in ("mean", "low", "high", "interval_kind")},
        }
        if name in differences.index:
            apart = differences.loc[name]
            row |= {"difference": apart["difference"], "difference_low": apart["low"], "difference_high": apart["high"]}
            row |= {"p": apart["p"], "p_holm": apart["p_holm"]}
        if name in gaps.index:
            closed = gaps.loc[name]
            row |= {"gap_closed": closed["gap_closed"], "gap_closed_low": closed["low"]}
            row |= {"gap_closed_high": closed["high"]}
        row |= {"n_patients": int(result["n_patients"]), "n_seeds": int(result["n_seeds"])}
        row |= {"n_rotations": found.rotations_of(str(name), PRIMARY)}
        rows.append({**row, "note": result["note"]})
    return [{key: _cell(value) for key, value in row.items()} for row in rows]


def as_evaluated(turn: Turn, records: pd.DataFrame) -> Rotation:
    """A rotation as the statistics want it."""
    import pandas as pd

    from stainda.evaluation import Rotation

    trials = pd.read_csv(turn.folder.root / "trials.csv", dtype={"job": str})
    return Rotation(turn.name, turn.group, turn.sources, turn.targets, records, trials)


def _cell(value: Any) -> Any:
    return None if value != value else value
