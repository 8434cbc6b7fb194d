"""Reading a run directory: every file the report is made of, and a reason for each one that is not there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from stainda.config import StrategyConfig, StudyConfig, read_yaml
from stainda.config.load import validated
from stainda.errors import RecordError
from stainda.evaluation import OBJECT_COLUMNS, PROBABILITY_COLUMNS, gather_records, read_evidence, read_records
from stainda.evaluation.domain_gap import GAP_COLUMNS
from stainda.evaluation.effect import EFFECT_SUMMARY_COLUMNS, Effect, join_effects

_THROUGH = (
    "place", "kind", "of", "trainings", "asked", "missed", "tried", "false_um2", "block", "patient", "object", "class",
    "frame", "registration", "x", "y", "side", "um_per_px", "slide", "section", "stain", "centre", "domain", "role",
    "shape", "image", "reason",
)  # fmt: skip
COLUMNS: dict[str, tuple[str, ...]] = {
    "cohort.csv": ("slide", "patient", "block", "stain", "centre", "domain", "split", "role"),
    "trials.csv": ("strategy", "trial", "seed", "job", "state", "value", "chosen", "params", "reason"),
    "stages.csv": ("stage", "seconds"),
    "registration/quality.csv": ("block", "source", "target", "status", "reason"),
    "annotations/propagation.csv": ("id", "class", "source", "target", "status", "reason"),
    "annotations/agreement.csv": ("target", "class", "id", "dice", "centroid_distance_px"),
    "unsupervised.csv": ("strategy", "trial", "seed", "checkpoint"),
    "alignment_effects.csv": EFFECT_SUMMARY_COLUMNS,
    "fields/fields.csv": ("slide", "x", "y", "downsample"),
    "domain_gap.csv": GAP_COLUMNS,
    "left_out.csv": ("strategy", "without", "seed", "job"),
    "refits.csv": ("strategy", "trial", "seed", "job", "repeats", "state", "reason"),
    "leave_one_out.csv": ("strategy",),
    "registration/landmarks.csv": ("block", "source", "target", "step", "n_landmarks", "tre_median_px"),
    "annotations/annotators.csv": ("slide", "annotator"),
    "annotations/annotator_agreement.csv": ("slide",),
    "review/applied.csv": ("id", "class", "block", "source", "target", "decision", "reviewer", "status", "reason"),
    "through/through.csv": _THROUGH,
    "through/left_out.csv": ("block", "slide", "reason"),
    "exclusions.csv": ("strategy", "trial", "seed", "job", "state", "why"),
    "earlier_rotations.csv": ("rotation", "state"),
}
"""Tables the report reads, and the columns without which they are of no use."""

OPTIONAL = {
    "review/applied.csv",
    "unsupervised.csv", "alignment_effects.csv", "domain_gap.csv", "registration/landmarks.csv",
    "annotations/annotators.csv", "annotations/annotator_agreement.csv", "objects.parquet", "probabilities.parquet",
    "through/through.csv", "through/left_out.csv", "exclusions.csv", "left_out.csv", "leave_one_out.csv",
    "refits.csv", "earlier_rotations.csv",
}  # fmt: skip
"""Files that not every study has; where the page would need one, it says so there."""

EVIDENCE = {"objects.parquet": OBJECT_COLUMNS, "probabilities.parquet": PROBABILITY_COLUMNS}

_TEXT = {
    "slide", "patient", "block", "stain", "centre", "scanner", "domain", "split", "role", "strategy", "job", "state",
    "params", "reason", "status", "source", "target", "id", "class", "stage", "overlay", "path", "name", "checkpoint",
    "proxy_a_note", "step", "annotator", "first", "second", "decision", "reviewer", "time", "kind", "object", "frame",
    "registration", "shape", "image", "why", "without", "repeats",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training job's folder."""

    name: str
    folder: Path
    result: dict[str, Any]
    error: str
    done: bool
    curve: pd.DataFrame | None = None


@dataclass(frozen=True)
class Run:
    """A run directory in memory. Tables that are not there are empty; ``missing`` says why, by file name.

    Attributes:
        study: as study.yaml has it, and the strategies of earlier calls that trials.csv still holds (``earlier``).
        unreported: folders below jobs/ that neither trials.csv nor exclusions.csv names.
    """

    folder: Path
    study: StudyConfig
    environment: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    records: pd.DataFrame
    jobs: dict[str, Job]
    missing: dict[str, str] = field(default_factory=dict)
    objects: pd.DataFrame = field(default_factory=pd.DataFrame)
    probabilities: pd.DataFrame = field(default_factory=pd.DataFrame)
    earlier: tuple[str, ...] = ()
    unreported: tuple[Job, ...] = ()

    @property
    def cohort(self) -> pd.DataFrame:
        return self.tables["cohort.csv"]

    @property
    def trials(self) -> pd.DataFrame:
        return self.tables["trials.csv"]

    @property
    def quality(self) -> pd.DataFrame:
        return self.tables["registration/quality.csv"]

    @property
    def propagation(self) -> pd.DataFrame:
        return self.tables["annotations/propagation.csv"]

    @property
    def agreement(self) -> pd.DataFrame:
        return self.tables["annotations/agreement.csv"]

    @property
    def fields(self) -> pd.DataFrame:
        return self.tables["fields/fields.csv"]

    @property
    def domain_gap(self) -> pd.DataFrame:
        return self.tables["domain_gap.csv"]

    @property
    def landmarks(self) -> pd.DataFrame:
        return self.tables["registration/landmarks.csv"]

    @property
    def stages(self) -> pd.DataFrame:
        return self.tables["stages.csv"]

    @property
    def exclusions(self) -> pd.DataFrame:
        """Trainings on the disk that are not reported, with ``why``; those of trials.csv are none of them."""
        rows = self.tables["exclusions.csv"]
        return rows[~rows["job"].isin(set(self.trials["job"]))]

    @cached_property
    def effects(self) -> dict[str, Effect]:
        """What the alignment of each strategy did in its trainings, by strategy; those that align nothing have none."""
        rows = self.tables.get("alignment_effects.csv", pd.DataFrame())
        fields = rows[list(EFFECT_SUMMARY_COLUMNS)] if len(rows) else rows
        made = (Effect(**{**row, "reason": row["reason"] or ""}) for row in fields.to_dict("records"))
        return {one.strategy: one for one in join_effects(made)}

    @cached_property
    def _again(self) -> dict[str, str]:
        rows = self.tables["refits.csv"] if "refits.csv" in self.tables else pd.DataFrame(columns=["state"])
        rows = rows[rows["state"] == "complete"]
        return dict(zip(rows["repeats"], rows["job"], strict=True)) if len(rows) else {}

    def reported_job(self, name: str) -> str:
        """The training that made this one again from all source patients, where there is one; else this one."""
        return self._again.get(str(name), str(name))

    def label(self, strategy: str) -> str:
        """The title of a strategy, or its name where the study no longer holds it."""
        return next((one.label for one in self.study.strategies if one.name == strategy), strategy)

    def path(self, name: str) -> Path | None:
        """A file of the run, ``None`` where it is missing or lies outside the run directory."""
        path = (self.folder / name).resolve()
        return path if path.is_file() and path.is_relative_to(self.folder.resolve()) else None


def load_run(folder: str | Path) -> Run:
    """Read a run directory.

    Raises:
        RecordError: ``folder`` is no run directory (it has no study.yaml), or one of its tables lacks a column.
        ConfigError: study.yaml is not a study.
    """
    folder = Path(folder)
    if not (folder / "study.yaml").is_file():
        raise RecordError(
            "not a run directory: there is no study.yaml in it",
            file=folder,
            remedy="Give the folder of a 'stainda run'",
        )
    if (folder / "rotations.csv").is_file():
        raise RecordError(
            "a study of several rotations is no single run", file=folder,
            remedy="Give the folder of one of its rotations, below rotations/",
        )  # fmt: skip
    study = validated(StudyConfig, read_yaml(folder / "study.yaml"), folder / "study.yaml")
    missing: dict[str, str] = {}
    tables = {name: _table(folder, name, missing) for name in COLUMNS}
    if tables["trials.csv"].size:
        tables["trials.csv"]["chosen"] = tables["trials.csv"]["chosen"].map(_truth).astype(bool)
        tables["trials.csv"]["value"] = pd.to_numeric(tables["trials.csv"]["value"], errors="coerce")
    jobs = {path.name: _job(path) for path in sorted((folder / "jobs").glob("*")) if path.is_dir()}
    records = _records(folder, jobs, tables["trials.csv"], missing)
    unreported: tuple[Job, ...] = ()
    if "records.parquet" not in missing and len(tables["trials.csv"]):  # jobs of earlier settings are no part of it
        mine = set(tables["trials.csv"]["job"])
        again = set(tables["refits.csv"]["job"])
        told = mine | again | set(tables["exclusions.csv"]["job"]) | set(tables["left_out.csv"]["job"])
        unreported = tuple(job for name, job in jobs.items() if name not in told)
        jobs = {name: job for name, job in jobs.items() if name in mine | again}
    evidence = {name: _evidence(folder, name, missing) for name in EVIDENCE}
    reported = with_earlier_strategies(study, tables["trials.csv"], folder)
    earlier = tuple(one.name for one in reported.strategies[len(study.strategies) :])
    return Run(
        folder, reported, _json(folder / "environment.json"), tables, records, jobs, missing,
        evidence["objects.parquet"], evidence["probabilities.parquet"], earlier, unreported,
    )  # fmt: skip


def with_earlier_strategies(study: StudyConfig, trials: pd.DataFrame, *folders: Path) -> StudyConfig:
    """The study with the strategies of earlier calls that trials.csv still holds, as their jobs below ``folders`` say.

    Without them nobody would know that one of them learned from target labels.
    """
    known = {one.name for one in study.strategies}
    found = []
    for row in trials.drop_duplicates("strategy").to_dict("records") if len(trials) else []:
        name = str(row["strategy"])
        if name in known:
            continue
        places = (folder / "jobs" / str(row["job"]) / "settings.json" for folder in folders)
        made = next((_json(path).get("strategy") for path in places if path.is_file()), None)
        found.append(validated(StrategyConfig, made if isinstance(made, dict) else {"name": name}, name))
    return study.model_copy(update={"strategies": (*study.strategies, *found)}) if found else study


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
    empty = pd.DataFrame({column: pd.Series(dtype=object) for column in needed})
    if not path.is_file():
        missing[name] = f"there is no {name}: that stage was not run"
        return empty
    try:
        header = pd.read_csv(path, nrows=0).columns
        kinds = {column: str for column in header if column in _TEXT}
        table = pd.read_csv(path, dtype=kinds, na_values=[""], keep_default_na=False, low_memory=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordError(f"not a readable table ({error})", file=path, remedy="Run the stage again") from error
    if lacking := [column for column in needed if column not in table.columns]:
        raise RecordError(f"columns {', '.join(lacking)} are missing", file=path, remedy="Run the stage again")
    for column in set(table.columns) & _TEXT:
        table[column] = table[column].fillna("")
    if table.empty:
        missing[name] = f"{name} has no rows"
    return table


def _records(folder: Path, jobs: dict[str, Job], trials: pd.DataFrame, missing: dict[str, str]) -> pd.DataFrame:
    """The gathered records, or, where the study was interrupted before gathering, those of the finished jobs."""
    path = folder / "records.parquet"
    if path.is_file():
        return read_records(path)
    there = {name: job for name, job in jobs.items() if _has_records(job) and not job.result.get("thresholds_of")}
    found = {name: read_records(job.folder / "records.parquet") for name, job in there.items()}
    if not found:
        missing["records.parquet"] = "nothing was evaluated yet: there are no records"
        return gather_records([])
    missing["records.parquet"] = f"the study is not finished: records of {len(found)} finished jobs are shown"
    # one job may serve several trials, and its own records do not know which: trials.csv does
    rows = [row for row in trials.to_dict("records") if row["job"] in found]
    parts = [
        found[row["job"]].assign(strategy=row["strategy"], trial=int(row["trial"]), seed=int(row["seed"]))
        for row in rows
    ]
    served = {row["job"] for row in rows}
    unknown = [name for name in found if name not in served]
    parts += [found[name].assign(trial=1000 + number) for number, name in enumerate(unknown)]
    return gather_records(parts)


def _has_records(job: Job) -> bool:
    return job.done and (job.folder / "records.parquet").is_file()


def _job(folder: Path) -> Job:
    error = folder / "error.txt"
    curve = folder / "training.csv"
    text = error.read_text(encoding="utf-8", errors="replace").strip() if error.is_file() else ""
    table = None
    if curve.is_file() and curve.stat().st_size:
        table = pd.read_csv(curve)
    return Job(folder.name, folder, _json(folder / "result.json"), text, (folder / "done").is_file(), table)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordError(f"not valid JSON ({error})", file=path, remedy="Run the stage again") from error
    return value if isinstance(value, dict) else {}


def _truth(value: Any) -> bool:
    return str(value).strip().lower() in {"true", "1", "1.0", "yes"}
