"""Reading a run directory, of one rotation or of several, with a reason for each file that is not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stainda.config import StrategyConfig, StudyConfig
from stainda.config.load import validated
from stainda.errors import RecordError
from stainda.evaluation import gather_records, read_evidence, read_records
from stainda.files import load_json
from stainda.report.run import COLUMNS, SPLITS, TEXT, JobFolder, LoadedRun, RotationResult
from stainda.run_directory.contents import DONE, ENVIRONMENT, ERROR, RESULT, SETTINGS, STUDY
from stainda.run_directory.folder import read_study
from stainda.run_directory.result_tables import (
    ALIGNMENT_EFFECTS,
    CONFUSION,
    OBJECTS,
    PROBABILITIES,
    RECORDS,
    ROTATIONS,
    UNSUPERVISED,
)
from stainda.run_directory.tables import (
    ANNOTATOR_AGREEMENT,
    ANNOTATORS,
    COHORT,
    EARLIER_COLUMNS,
    EARLIER_PATHS,
    LANDMARKS,
    QUALITY,
    SLIDES,
)
from stainda.run_directory.training_tables import (
    EXCLUSIONS,
    LABEL_SHARES,
    LEFT_OUT,
    PRETRAININGS,
    REFITS,
    STAGE_SECONDS,
    TRAINING,
    TRIALS,
)

EVIDENCE = {
    OBJECTS.path: OBJECTS.names,
    PROBABILITIES.path: PROBABILITIES.needed,
    CONFUSION.path: CONFUSION.names,
}
_SHARED = {
    COHORT.path, SLIDES.path, STAGE_SECONDS.path, QUALITY.path, LANDMARKS.path, ANNOTATORS.path,
    ANNOTATOR_AGREEMENT.path,
}  # fmt: skip
"""Tables that a study has once, for all its rotations; the others are made in each."""
_NUMBERS_OF_AN_EPOCH = ["epoch", "step", "seconds", "val_dice"]
_GATHERED = (
    TRIALS.path, REFITS.path, EXCLUSIONS.path, ALIGNMENT_EFFECTS.path, LABEL_SHARES.path, PRETRAININGS.path
)  # fmt: skip
"""Tables of each rotation that are read as one table of the study."""


@dataclass(frozen=True)
class _Part:
    """What the folder of one rotation holds; that of a study that does not rotate is the run directory."""

    folder: Path
    rotation: str
    tables: dict[str, pd.DataFrame]
    jobs: dict[str, JobFolder]
    records: pd.DataFrame
    evidence: dict[str, pd.DataFrame]
    missing: dict[str, str]
    unreported: tuple[JobFolder, ...]


def load_run(folder: str | Path) -> LoadedRun:
    """Read a run directory.

    Raises:
        RecordError: ``folder`` is no run directory (it has no study.yaml), or one of its tables lacks a column.
        ConfigError: study.yaml is not a study.
    """
    folder = Path(folder)
    if not STUDY.at(folder).is_file():
        raise RecordError(
            "not a run directory: there is no study.yaml in it",
            file=folder,
            remedy="Give the folder of a 'stainda run'",
        )
    study = read_study(folder)
    return _several(folder, study) if ROTATIONS.at(folder).is_file() else _one(folder, study)


def _one(folder: Path, study: StudyConfig) -> LoadedRun:
    part = _read(folder)
    cohort = part.tables[COHORT.path]
    patients = {split: tuple(cohort.loc[cohort["split"] == split, "patient"].unique()) for split in SPLITS}
    rotation = RotationResult(
        "", "", ".", study.protocol.sources, study.protocol.targets, patients, part.records,
        part.tables[TRIALS.path], part.tables[UNSUPERVISED.path], part.evidence[PROBABILITIES.path],
    )  # fmt: skip
    return _run(folder, study, [part], (rotation,), part.tables, part.missing)


def _several(folder: Path, study: StudyConfig) -> LoadedRun:
    parts: list[_Part] = []
    rotations: list[RotationResult] = []
    for row in _rotations(folder).to_dict("records"):
        inside = folder / row["folder"]
        within = inside.resolve().is_relative_to(folder.resolve())
        if row["folder"] and within and STUDY.at(inside).is_file():
            parts.append(_read(inside, row["rotation"]))
            rotations.append(_rotation(row, parts[-1]))
        else:
            rotations.append(_rotation(row, None))
    missing: dict[str, str] = {}
    tables = {name: _table(folder, name, missing if name in _SHARED else {}) for name in COLUMNS}
    for name in _GATHERED if parts else ():
        result = [part.tables[name].assign(rotation=part.rotation) for part in parts]
        tables[name] = pd.concat([table for table in result if len(table)] or result[:1], ignore_index=True)
    if not any(rotation.scored for rotation in rotations):
        missing[RECORDS.path] = "no rotation has records of test patients"
    return _run(folder, study, parts, tuple(rotations), tables, missing)


def _run(
    folder: Path, study: StudyConfig, parts: list[_Part], rotations: tuple[RotationResult, ...],
    tables: dict[str, pd.DataFrame], missing: dict[str, str],
) -> LoadedRun:  # fmt: skip
    reported = with_earlier_strategies(study, tables[TRIALS.path], *(part.folder for part in parts))
    jobs = {name: job for part in parts for name, job in part.jobs.items()}
    records = [rotation.records for rotation in rotations if len(rotation.records)]
    evidence = parts[0].evidence if not any(rotation.name for rotation in rotations) else {}
    empty = pd.DataFrame()
    return LoadedRun(
        folder, reported, _json(ENVIRONMENT.at(folder)), tables, rotations,
        pd.concat(records, ignore_index=True) if records else gather_records([]), jobs, missing,
        evidence.get(OBJECTS.path, empty), evidence.get(PROBABILITIES.path, empty),
        evidence.get(CONFUSION.path, empty),
        tuple(strategy.name for strategy in reported.strategies[len(study.strategies) :]),
        tuple(job for part in parts for job in part.unreported),
    )  # fmt: skip


def _read(folder: Path, rotation: str = "") -> _Part:
    missing: dict[str, str] = {}
    tables = {name: _table(folder, name, missing) for name in COLUMNS}
    if tables[TRIALS.path].size:
        tables[TRIALS.path]["chosen"] = tables[TRIALS.path]["chosen"].map(_truth).astype(bool)
        tables[TRIALS.path]["value"] = pd.to_numeric(tables[TRIALS.path]["value"], errors="coerce")
    jobs = {path.name: _job(path, rotation) for path in sorted((folder / "jobs").glob("*")) if path.is_dir()}
    if rotation and not RECORDS.at(folder).is_file():
        records = gather_records([])  # scores of a part of its trainings are not set next to those of other rotations
    else:
        records = _records(folder, jobs, tables[TRIALS.path], missing)
    unreported: tuple[JobFolder, ...] = ()
    if RECORDS.path not in missing and len(tables[TRIALS.path]):  # jobs of earlier settings are no part of it
        mine = set(tables[TRIALS.path]["job"])
        again = set(tables[REFITS.path]["job"])
        known = mine | again | set(tables[EXCLUSIONS.path]["job"]) | set(tables[LEFT_OUT.path]["job"])
        unreported = tuple(job for name, job in jobs.items() if name not in known)
        jobs = {name: job for name, job in jobs.items() if name in mine | again}
    kinds = (PROBABILITIES.path,) if rotation else tuple(EVIDENCE)  # of objects each rotation's own page tells
    evidence = {name: _evidence(folder, name, missing) for name in kinds}
    return _Part(folder, rotation, tables, jobs, records, evidence, missing, unreported)


def _rotations(folder: Path) -> pd.DataFrame:
    path = ROTATIONS.at(folder)
    try:
        table = pd.read_csv(path, dtype=str).fillna("")
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordError(f"not a readable table ({error})", file=path, remedy="Run the study again") from error
    if lacking := [name for name in ROTATIONS.names if name not in table.columns]:
        raise RecordError(f"columns {', '.join(lacking)} are missing", file=path, remedy="Run the study again")
    return table


def _rotation(row: dict[str, str], part: _Part | None) -> RotationResult:
    def names(column: str) -> tuple[str, ...]:
        return tuple(filter(None, row[column].split("; ")))

    tables = part.tables if part else {}
    nothing = pd.DataFrame()
    return RotationResult(
        row["rotation"], row["group"] or row["rotation"], row["folder"], names("sources"), names("targets"),
        {split: names(split) for split in SPLITS}, part.records if part else gather_records([]),
        tables.get(TRIALS.path, nothing), tables.get(UNSUPERVISED.path, nothing),
        part.evidence[PROBABILITIES.path] if part else nothing, row["state"], row["reason"],
    )  # fmt: skip


def with_earlier_strategies(study: StudyConfig, trials: pd.DataFrame, *folders: Path) -> StudyConfig:
    """The study with the strategies of earlier calls that trials.csv still holds, as their jobs below ``folders`` say.

    Without them nobody would know that one of them learned from target labels.
    """
    known = {strategy.name for strategy in study.strategies}
    result = []
    for row in trials.drop_duplicates("strategy").to_dict("records") if len(trials) else []:
        name = str(row["strategy"])
        if name in known:
            continue
        places = (SETTINGS.inside(folder / "jobs" / str(row["job"])) for folder in folders)
        recorded = next((_json(path).get("strategy") for path in places if path.is_file()), None)
        result.append(validated(StrategyConfig, recorded if isinstance(recorded, dict) else {"name": name}, name))
    return study.model_copy(update={"strategies": (*study.strategies, *result)}) if result else study


def _evidence(folder: Path, name: str, missing: dict[str, str]) -> pd.DataFrame:
    """Objects or probabilities of the best checkpoints; empty, with a reason, where the study has none."""
    if not (folder / name).is_file():
        missing[name] = f"there is no {name}: it is written when a study is scored; 'stainda run' makes what is missing"
        return pd.DataFrame(columns=list(EVIDENCE[name]))
    table = read_evidence(folder / name, EVIDENCE[name])
    if table.empty:
        missing[name] = f"{name} has no rows"
    return table


def _table(folder: Path, name: str, missing: dict[str, str]) -> pd.DataFrame:
    path, needed = folder / name, COLUMNS[name]
    if not path.is_file() and name in EARLIER_PATHS and (folder / EARLIER_PATHS[name]).is_file():
        path = folder / EARLIER_PATHS[name]
    empty = pd.DataFrame({column: pd.Series(dtype=object) for column in needed})
    if not path.is_file():
        missing[name] = f"there is no {name}: that stage was not run"
        return empty
    try:
        header = pd.read_csv(path, nrows=0).columns
        kinds = {column: str for column in header if column in TEXT}
        table = pd.read_csv(path, dtype=kinds, na_values=[""], keep_default_na=False, low_memory=False)
        table = table.rename(columns=EARLIER_COLUMNS.get(name, {}))
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordError(f"not a readable table ({error})", file=path, remedy="Run the stage again") from error
    if lacking := [column for column in needed if column not in table.columns]:
        raise RecordError(f"columns {', '.join(lacking)} are missing", file=path, remedy="Run the stage again")
    for column in set(table.columns) & TEXT:
        table[column] = table[column].fillna("")
    if name in (TRIALS.path, UNSUPERVISED.path):
        for column in ("trial", "seed"):
            table[column] = _whole(table[column], path)
    if table.empty:
        missing[name] = f"{name} has no rows"
    return table


def _whole(column: pd.Series, path: Path) -> pd.Series:
    """A column of whole numbers as int64."""
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers % 1 == 0) & (numbers.abs() < 2**53)))
    if len(wrong):
        raise RecordError(
            f"{column.name} {str(column.iloc[wrong[0]])[:40]!r} is no whole number",
            file=path, row=int(wrong[0]) + 2, remedy="Run the stage again",
        )  # fmt: skip
    return numbers.astype(np.int64)


def _records(folder: Path, jobs: dict[str, JobFolder], trials: pd.DataFrame, missing: dict[str, str]) -> pd.DataFrame:
    """The gathered records, or, where the study was interrupted before gathering, those of the finished jobs."""
    path = RECORDS.at(folder)
    if path.is_file():
        return read_records(path)
    scored = {name: job for name, job in jobs.items() if _has_records(job) and not job.result.get("thresholds_of")}
    result = {name: read_records(RECORDS.at(job.folder)) for name, job in scored.items()}
    if not result:
        missing[RECORDS.path] = "nothing was evaluated yet: there are no records"
        return gather_records([])
    missing[RECORDS.path] = f"the study is not finished: records of {len(result)} finished jobs are shown"
    # one job may serve several trials, and its own records do not know which: trials.csv does
    rows = [row for row in trials.to_dict("records") if row["job"] in result]
    parts = [
        result[row["job"]].assign(strategy=row["strategy"], trial=int(row["trial"]), seed=int(row["seed"]))
        for row in rows
    ]
    served = {row["job"] for row in rows}
    unknown = [name for name in result if name not in served]
    parts += [result[name].assign(trial=1000 + number) for number, name in enumerate(unknown)]
    return gather_records(parts)


def _has_records(job: JobFolder) -> bool:
    return job.done and RECORDS.at(job.folder).is_file()


def _job(folder: Path, rotation: str) -> JobFolder:
    error = ERROR.inside(folder)
    curve = TRAINING.inside(folder)
    text = error.read_text(encoding="utf-8", errors="replace").strip() if error.is_file() else ""
    table = None
    if curve.is_file() and curve.stat().st_size:
        try:
            table = pd.read_csv(curve)
            for column in table.columns.intersection(_NUMBERS_OF_AN_EPOCH):
                table[column] = pd.to_numeric(table[column])
        except ValueError as error:
            raise RecordError(f"not a readable table ({error})", file=curve, remedy="Run the stage again") from error
    return JobFolder(
        folder.name, folder, _json(RESULT.inside(folder)), text, DONE.inside(folder).is_file(), table, rotation
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = load_json(path)
    except ValueError as error:
        raise RecordError(f"not valid JSON ({error})", file=path, remedy="Run the stage again") from error
    return value if isinstance(value, dict) else {}


def _truth(value: object) -> bool:
    return str(value).strip().lower() in {"true", "1", "1.0", "yes"}
