"""The tables at the root of a study of several rotations, made from those of the rotations alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.run_directory.contents import STUDY
from stainda.run_directory.declaration import Table
from stainda.run_directory.microenvironment_tables import GROUPS, PATIENTS, SLIDES
from stainda.run_directory.result_tables import MATRIX, OVERALL, RECORDS, RESULTS, ROTATIONS
from stainda.run_directory.slide_level_tables import SLIDE_SCORES, SLIDE_SUMMARY, SLIDE_TRAININGS
from stainda.run_directory.training_tables import TRIALS

if TYPE_CHECKING:
    import pandas as pd

    from stainda.config import StudyConfig
    from stainda.evaluation import Analysis
    from stainda.evaluation.pooling import Group
    from stainda.report.run import LoadedRun, RotationResult

PRIMARY, OVERALL_MEASURES = "dice", ("dice", "object_f1", "aji")


def is_rotating(root: Path) -> bool:
    """Whether a run directory is that of a study of several rotations."""
    return ROTATIONS.at(root).is_file()


def rotation_folders(root: Path) -> list[Path]:
    """The run directories of the rotations that were begun, in their order."""
    import pandas as pd

    folders = [root / name for name in pd.read_csv(ROTATIONS.at(root), dtype=str).fillna("")["folder"] if name]
    return [folder for folder in folders if STUDY.at(folder).is_file()]


def write_pooled_tables(root: Path) -> None:
    """Write the root's tables from what the rotations have so far.

    ``trials.csv``, ``records.parquet`` and ``results.csv`` are those of the rotations below each other, with a leading
    column ``rotation``; where there are folds, results.csv has further rows in which the patients of all folds of the
    same sources are one cohort, each with the scores of the fold that tested it. ``matrix.csv`` is the primary measure
    from sources to targets, ``overall.csv`` its mean over patients of what they scored as targets in all rotations.
    """
    import pandas as pd

    from stainda.evaluation import analyse, read_records
    from stainda.report.loading import load_run

    run = load_run(root)
    trained = {
        rotation.name: root / rotation.folder for rotation in run.begun if TRIALS.at(root / rotation.folder).is_file()
    }
    if trained:
        tables = {name: pd.read_csv(TRIALS.at(folder), dtype={"job": str}) for name, folder in trained.items()}
        TRIALS.write_frame(root, TRIALS.complete(_stacked(tables)))
    done = {name: folder for name, folder in trained.items() if RESULTS.at(folder).is_file()}
    if not done:
        return
    RECORDS.write_frame(root, _stacked({name: read_records(RECORDS.at(folder)) for name, folder in done.items()}))
    analysis = analyse([rotation.evaluated(run.study) for rotation in run.begun if rotation.name in done], run.study)
    results = [_stacked({name: pd.read_csv(RESULTS.at(folder)) for name, folder in done.items()})]
    results += [_results_of_folds(run, group) for group in analysis.groups if len(group.members) > 1]
    table = pd.concat(results, ignore_index=True)
    RESULTS.write_frame(root, table)
    MATRIX.write(root, _matrix(table, analysis.groups))
    OVERALL.write(root, [row for measure in OVERALL_MEASURES for row in _overall(analysis, measure)])


def write_pooled_microenvironment(root: Path) -> None:
    """Cells about structures of all rotations that were measured, with a leading column ``rotation``.

    Where rotations share sections the same section stands in several of them: they are not to be averaged blindly.
    """
    _write_stacked(root, (SLIDES, PATIENTS, GROUPS))


def write_pooled_slides(root: Path) -> None:
    """Scores of labels of slides of all rotations, with a leading column ``rotation``."""
    _write_stacked(root, (SLIDE_SCORES, SLIDE_SUMMARY, SLIDE_TRAININGS))


def _write_stacked(root: Path, wanted: Sequence[Table]) -> None:
    """Tables of all rotations that have the first of them."""
    import pandas as pd

    names = pd.read_csv(ROTATIONS.at(root), dtype=str).fillna("").set_index("folder")["rotation"]
    measured = {
        str(names[folder.relative_to(root).as_posix()]): folder
        for folder in rotation_folders(root)
        if wanted[0].at(folder).is_file()
    }
    for table in wanted if measured else ():
        tables = {name: table.read(table.at(folder).parent) for name, folder in measured.items()}
        table.write_frame(table.at(root).parent, _stacked(tables))


def _stacked(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables of rotations, by name, below each other."""
    import pandas as pd

    for name, table in tables.items():
        if "rotation" in table.columns:
            del table["rotation"]
        table.insert(0, "rotation", name)
    return pd.concat(list(tables.values()), ignore_index=True)


def _results_of_folds(run: LoadedRun, group: Group) -> pd.DataFrame:
    """results.csv of the folds of one set of sources as one cohort."""
    from stainda.evaluation import analyse, one_rotation
    from stainda.evaluation.pooling import joined_trainings
    from stainda.evaluation.selection import DEFAULT_RULE

    members = [rotation for rotation in run.begun if rotation.name in {member.name for member in group.members}]
    config = _reported(run, members[0])
    records = joined_trainings([_chosen(rotation) for rotation in members])
    table = analyse([one_rotation(records, config)], config).results
    table = table[table["selection"] == DEFAULT_RULE].reset_index(drop=True)
    table.insert(0, "rotation", group.name)
    return table


def _reported(run: LoadedRun, rotation: RotationResult) -> StudyConfig:
    """The study of a rotation with the strategies of earlier calls that its trials.csv still holds."""
    from stainda.report.loading import with_earlier_strategies
    from stainda.run_directory.folder import read_study

    folder = run.folder / rotation.folder
    return with_earlier_strategies(read_study(folder), rotation.trials, folder)


def _chosen(rotation: RotationResult) -> pd.DataFrame:
    """The records of what source validation chose in this rotation, as if there had been one trial and checkpoint."""
    from stainda.evaluation import chosen_records, rule, select
    from stainda.evaluation.selection import DEFAULT_RULE

    choices = select(rotation.records, rotation.sources, rotation.trials, rules=(rule(DEFAULT_RULE),))
    return chosen_records(rotation.records, choices, DEFAULT_RULE).assign(trial=0, checkpoint="best")


def _matrix(results: pd.DataFrame, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """From sources to targets; where there are folds, with the patients of all folds."""
    from stainda.report.summary_text import headline

    rows = headline(results, PRIMARY)
    result = []
    for group in groups:
        for row in rows[rows["rotation"] == group.name].to_dict("records"):
            values = {key: row[key] for key in MATRIX.names if key in row}
            result.append({**values, "sources": "; ".join(group.sources), "target": row["domain"]})
    return result


def _overall(analysis: Analysis, measure: str) -> list[dict[str, Any]]:
    """Every strategy's mean over patients, each patient's over the rotations in which it was tested as a target."""
    from stainda.evaluation import ALL_TARGETS
    from stainda.report.summary_text import headline

    results, differences, gaps = (
        rows[rows["domain"] == ALL_TARGETS].set_index("strategy")
        for rows in (headline(table, measure) for table in (analysis.results, analysis.differences, analysis.gaps))
    )
    rows = []
    for name, result in results.iterrows():
        row = {
            "strategy": name,
            "measure": measure,
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
        row |= {"n_rotations": analysis.rotations_of(str(name), measure)}
        rows.append({**row, "note": result["note"]})
    return [{key: _cell(value) for key, value in row.items()} for row in rows]


def _cell(value: object) -> object:
    return None if value != value else value
