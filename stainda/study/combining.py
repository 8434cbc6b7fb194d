"""The tables of a study of several rotations, made from those of the rotations alone."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.config import StudyConfig
from stainda.files import whole_file, write_csv, write_text
from stainda.study.folder import RunFolder, read_study

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ROTATION_COLUMNS = (
    "rotation", "group", "folder", "sources", "targets", "train", "val", "test", "state", "reason",
)  # fmt: skip
MATRIX_COLUMNS = (
    "strategy", "rotation", "sources", "target", "role", "class", "measure", "mean", "low", "high", "n_patients",
    "n_seeds",
)  # fmt: skip
OVERALL_COLUMNS = (
    "strategy", "measure", "mean", "low", "high", "difference", "difference_low", "difference_high", "n_patients",
    "n_rotations", "note",
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
            turns.append(Turn(str(row.rotation), str(row.group), folder, read_study(folder.root), sources, targets))
    return turns


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
        table = pd.concat(results, ignore_index=True)
        _write(table, root / "results.csv")
        write_csv(root / "matrix.csv", _matrix(table, groups), MATRIX_COLUMNS)
        write_csv(root / "overall.csv", _overall(groups, chosen, read_study(root)), OVERALL_COLUMNS)
        write_page(root, turns)


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
    import pandas as pd

    from stainda.evaluation import summarise
    from stainda.evaluation.selection import DEFAULT_RULE

    records = pd.concat([chosen[turn.name] for turn in members], ignore_index=True)
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


def _overall(
    groups: dict[str, list[Turn]], chosen: dict[str, pd.DataFrame], config: StudyConfig
) -> list[dict[str, Any]]:
    """Every strategy's mean over patients, each patient's over the rotations in which it was tested as a target."""
    import numpy as np
    import pandas as pd

    from stainda.evaluation import intervals, score_cube
    from stainda.randomness import generator_for

    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    counts: dict[str, int] = defaultdict(int)
    for members in groups.values():
        records = pd.concat([chosen[turn.name] for turn in members], ignore_index=True)
        wanted = members[0].targets or members[0].sources
        test = records[(records["split"] == "test") & records["domain"].isin(wanted)]
        if not (test["measure"] == PRIMARY).any():
            continue
        cube = score_cube(test, PRIMARY, {"strategies": [one.name for one in config.strategies]})
        means = cube.over(cube.domains, cube.classes)
        for strategy, values in zip(cube.strategies, means, strict=True):
            counts[strategy] += 1
            for patient, value in zip(cube.patients, values, strict=True):
                scores[strategy][patient].append(float(value))
    strategies = [one.name for one in config.strategies if one.name in scores]
    patients = sorted({patient for found in scores.values() for patient in found})
    table = np.array([[_mean(scores[name].get(one, [])) for name in strategies] for one in patients])
    if not strategies:
        return []
    settings = config.evaluation

    def interval(columns: np.ndarray) -> Any:
        return intervals(
            columns, generator_for(config.seed, "bootstrap"), resamples=settings.resamples, level=settings.level,
            method=settings.interval,
        )  # fmt: skip

    found = interval(table)
    base = strategies.index(config.baseline) if config.baseline in strategies else None
    apart = None if base is None else interval(table - table[:, [base]])
    rows = []
    for index, name in enumerate(strategies):
        row: dict[str, Any] = {
            "strategy": name, "measure": PRIMARY, "mean": found.mean[index], "low": found.low[index],
            "high": found.high[index], "n_patients": found.n[index], "n_rotations": counts[name],
            "note": found.notes[index],
        }  # fmt: skip
        if apart is not None and index != base:
            row |= {
                "difference": apart.mean[index], "difference_low": apart.low[index],
                "difference_high": apart.high[index],
            }  # fmt: skip
        rows.append(row)
    return [{key: _cell(value) for key, value in row.items()} for row in rows]


def _mean(values: Sequence[float]) -> float:
    from math import isfinite, nan

    defined = [value for value in values if isfinite(value)]
    return sum(defined) / len(defined) if defined else nan


def _cell(value: Any) -> Any:
    return None if value != value else value


def write_page(root: Path, turns: Sequence[Turn]) -> Path:
    """A table of links to the pages of the rotations, above it every strategy's mean over all of them."""
    import pandas as pd

    config = read_study(root)
    title = html.escape(config.title or config.study)
    overall = pd.read_csv(root / "overall.csv")
    strategies = "".join(
        f"<tr><td>{html.escape(config.strategy(row.strategy).label)}</td><td>{row.mean:.3f}</td>"
        f"<td>{'' if row.low != row.low else f'{row.low:.3f} to {row.high:.3f}'}</td><td>{row.n_patients}</td></tr>"
        for row in overall.itertuples()
        if row.mean == row.mean
    )
    pages = "".join(
        f'<tr><td><a href="../{html.escape(turn.folder.root.relative_to(root).as_posix(), quote=True)}'
        f'/report/index.html">{html.escape(turn.name)}</a></td><td>{html.escape(", ".join(turn.sources))}</td>'
        f"<td>{html.escape(', '.join(turn.targets))}</td></tr>"
        for turn in turns
    )
    return write_text(
        root / "report" / "index.html",
        f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;line-height:1.5}}
table{{border-collapse:collapse}}
td,th{{text-align:left;padding:.2rem 1rem .2rem 0;border-bottom:1px solid #ccc}}</style>
<h1>{title}</h1><p>{html.escape(config.question)}</p>
<h2>Dice on targets, over all rotations</h2><table><tr><th>strategy<th>mean<th>interval<th>patients</tr>{strategies}
</table><p>From sources to targets, one by one: <a href="../matrix.csv">matrix.csv</a>.</p>
<h2>Rotations</h2><table><tr><th>rotation<th>sources<th>targets</tr>{pages}</table></html>
""",
    )
