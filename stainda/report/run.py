"""What a run directory holds: every table the report is made of, and the rotations of the study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from stainda.config import StudyConfig
from stainda.evaluation import RotationRecords, one_rotation
from stainda.evaluation.domain_gap import GAP_COLUMNS
from stainda.evaluation.effect import EFFECT_SUMMARY_COLUMNS, Effect, join_effects
from stainda.run_directory.result_tables import (
    ALIGNMENT_EFFECTS,
    CONFUSION,
    DOMAIN_GAP,
    EARLIER_ROTATIONS,
    ENCODERS,
    OBJECTS,
    PROBABILITIES,
    UNSUPERVISED,
)
from stainda.run_directory.tables import (
    AGREEMENT,
    ANNOTATOR_AGREEMENT,
    ANNOTATORS,
    APPLIED,
    COHORT,
    FIELDS,
    GALLERY,
    GALLERY_LEFT_OUT,
    LANDMARKS,
    PROPAGATION,
    QUALITY,
    SLIDES,
)
from stainda.run_directory.training_tables import (
    BUDGET,
    EXCLUSIONS,
    LABEL_SHARES,
    LEAVE_ONE_OUT,
    LEFT_OUT,
    PRETRAININGS,
    REFITS,
    STAGE_SECONDS,
    TRIALS,
)

COLUMNS: dict[str, tuple[str, ...]] = {
    COHORT.path: ("slide", "patient", "block", "stain", "centre", "domain", "split", "role"),
    TRIALS.path: ("strategy", "trial", "seed", "job", "state", "value", "chosen", "params", "reason"),
    STAGE_SECONDS.path: ("stage", "seconds"),
    QUALITY.path: ("block", "source", "target", "status", "reason"),
    PROPAGATION.path: ("id", "class", "source", "target", "status", "reason"),
    AGREEMENT.path: ("target", "class", "id", "dice", "centroid_distance_px"),
    UNSUPERVISED.path: ("strategy", "trial", "seed", "checkpoint"),
    ALIGNMENT_EFFECTS.path: tuple(name for name in EFFECT_SUMMARY_COLUMNS if name in ALIGNMENT_EFFECTS.needed),
    FIELDS.path: ("slide", "x", "y", "downsample"),
    DOMAIN_GAP.path: GAP_COLUMNS,
    ENCODERS.path: ENCODERS.names,
    LEFT_OUT.path: ("strategy", "without", "seed", "job"),
    REFITS.path: ("strategy", "trial", "seed", "job", "repeats", "state", "reason"),
    LEAVE_ONE_OUT.path: ("strategy",),
    LANDMARKS.path: ("block", "source", "target", "step", "n_landmarks", "tre_median_px"),
    ANNOTATORS.path: ("slide", "annotator"),
    ANNOTATOR_AGREEMENT.path: ("slide",),
    SLIDES.path: ("slide", "row", "state", "reason"),
    APPLIED.path: ("id", "class", "block", "source", "target", "decision", "reviewer", "status", "reason"),
    GALLERY.path: GALLERY.names,
    GALLERY_LEFT_OUT.path: ("block", "slide", "reason"),
    EXCLUSIONS.path: ("strategy", "trial", "seed", "job", "state", "why"),
    EARLIER_ROTATIONS.path: ("rotation", "state"),
    BUDGET.path: ("strategy",),
    LABEL_SHARES.path: ("strategy", "job", "start", "share", "objects"),
    PRETRAININGS.path: ("key", "name", "pairs", "seed", "strategies", "cpu_seconds"),
}
"""Tables the report reads, and the columns without which they are of no use."""

OPTIONAL = {
    APPLIED.path, SLIDES.path,
    UNSUPERVISED.path, ALIGNMENT_EFFECTS.path, DOMAIN_GAP.path, ENCODERS.path, LANDMARKS.path,
    ANNOTATORS.path, ANNOTATOR_AGREEMENT.path, OBJECTS.path, PROBABILITIES.path, CONFUSION.path,
    GALLERY.path, GALLERY_LEFT_OUT.path, EXCLUSIONS.path, LEFT_OUT.path, LEAVE_ONE_OUT.path,
    REFITS.path, EARLIER_ROTATIONS.path, BUDGET.path, LABEL_SHARES.path, PRETRAININGS.path,
}  # fmt: skip
"""Files that not every study has; where the page would need one, it says so there."""

SPLITS = ("train", "val", "test")

TEXT = {
    "slide", "patient", "block", "stain", "centre", "scanner", "domain", "split", "role", "strategy", "job", "state",
    "params", "reason", "status", "source", "target", "id", "class", "stage", "overlay", "path", "name", "checkpoint",
    "proxy_a_note", "step", "annotator", "first", "second", "decision", "reviewer", "time", "kind", "object", "frame",
    "registration", "shape", "image", "why", "without", "repeats", "start", "labels", "key", "pairs", "strategies",
    "measured_on", "encoder", "against", "note",
}  # fmt: skip
"""Columns that are read as text."""


@dataclass(frozen=True)
class JobFolder:
    """One training job's folder."""

    name: str
    folder: Path
    result: dict[str, Any]
    error: str
    done: bool
    curve: pd.DataFrame | None = None
    rotation: str = ""


@dataclass(frozen=True)
class RotationResult:
    """A rotation of a study and what it left so far.

    Attributes:
        name: empty where it is the only one of a study that does not rotate.
        group: the same for the folds of one set of sources.
        folder: relative to that of the study; empty where it is left out for good.
        targets: empty where the sources themselves are tested, in other patients.
        patients: by split.
        state: ``complete``, ``failed``, ``left out``, ``until STAGE``; empty where it was not begun.
    """

    name: str
    group: str
    folder: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    patients: Mapping[str, tuple[str, ...]]
    records: pd.DataFrame
    trials: pd.DataFrame
    unsupervised: pd.DataFrame
    probabilities: pd.DataFrame
    state: str = ""
    reason: str = ""

    @cached_property
    def scored(self) -> bool:
        """There are records of its test patients."""
        return bool((self.records["split"] == "test").any())

    @property
    def status(self) -> str:
        """Its state, in words."""
        if self.state in ("", "complete"):
            return "complete" if self.scored and self.state else "scored" if self.scored else "not run"
        return self.state

    def evaluated(self, study: StudyConfig) -> RotationRecords:
        """The rotation as the statistics take it."""
        trials = self.trials if len(self.trials) else None
        if not self.name:
            return one_rotation(self.records, study, trials, self.unsupervised)
        tested = self.targets or self.sources
        return RotationRecords(self.name, self.group, self.sources, tested, self.records, trials, self.unsupervised)


@dataclass(frozen=True)
class LoadedRun:
    """A run directory in memory. Tables that are not there are empty; ``missing`` says why, by file name.

    Attributes:
        study: as study.yaml has it, and the strategies of earlier calls that trials.csv still holds (``earlier``).
        tables: where the study rotates, those about trainings are of all rotations, with a column ``rotation``.
        rotations: in the order of the study; one without a name where the study does not rotate.
        records: of all rotations.
        objects, probabilities, confusion: empty where the study rotates: the page of each rotation shows its own.
        unreported: folders below jobs/ that neither trials.csv nor exclusions.csv names.
    """

    folder: Path
    study: StudyConfig
    environment: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    rotations: tuple[RotationResult, ...]
    records: pd.DataFrame
    jobs: dict[str, JobFolder]
    missing: dict[str, str] = field(default_factory=dict)
    objects: pd.DataFrame = field(default_factory=pd.DataFrame)
    probabilities: pd.DataFrame = field(default_factory=pd.DataFrame)
    confusion: pd.DataFrame = field(default_factory=pd.DataFrame)
    earlier: tuple[str, ...] = ()
    unreported: tuple[JobFolder, ...] = ()

    @property
    def rotates(self) -> bool:
        """Whether this is the root of a study of several rotations."""
        return any(rotation.name for rotation in self.rotations)

    @property
    def begun(self) -> tuple[RotationResult, ...]:
        """Rotations that have a folder."""
        return tuple(rotation for rotation in self.rotations if rotation.folder)

    @property
    def scored(self) -> tuple[RotationResult, ...]:
        return tuple(rotation for rotation in self.rotations if rotation.scored)

    @property
    def cohort(self) -> pd.DataFrame:
        return self.tables[COHORT.path]

    @property
    def trials(self) -> pd.DataFrame:
        return self.tables[TRIALS.path]

    @property
    def quality(self) -> pd.DataFrame:
        return self.tables[QUALITY.path]

    @property
    def propagation(self) -> pd.DataFrame:
        return self.tables[PROPAGATION.path]

    @property
    def agreement(self) -> pd.DataFrame:
        return self.tables[AGREEMENT.path]

    @property
    def fields(self) -> pd.DataFrame:
        return self.tables[FIELDS.path]

    @property
    def domain_gap(self) -> pd.DataFrame:
        return self.tables[DOMAIN_GAP.path]

    @property
    def landmarks(self) -> pd.DataFrame:
        return self.tables[LANDMARKS.path]

    @property
    def stages(self) -> pd.DataFrame:
        return self.tables[STAGE_SECONDS.path]

    @property
    def exclusions(self) -> pd.DataFrame:
        """Trainings on the disk that are not reported, with ``why``; those of trials.csv are none of them."""
        rows = self.tables[EXCLUSIONS.path]
        return rows[~rows["job"].isin(set(self.trials["job"]))]

    @cached_property
    def effects(self) -> dict[str, Effect]:
        """What the alignment of each strategy did in its trainings, by strategy; those that align nothing have none."""
        rows = self.tables.get(ALIGNMENT_EFFECTS.path, pd.DataFrame())
        fields = rows.reindex(columns=list(EFFECT_SUMMARY_COLUMNS))  # an earlier version did not say the losses
        effects = (Effect(**{**row, "reason": row["reason"] or ""}) for row in fields.to_dict("records"))
        return {measured.strategy: measured for measured in join_effects(effects)}

    @cached_property
    def _again(self) -> dict[str, str]:
        rows = self.tables[REFITS.path] if REFITS.path in self.tables else pd.DataFrame(columns=["state"])
        rows = rows[rows["state"] == "complete"]
        return dict(zip(rows["repeats"], rows["job"], strict=True)) if len(rows) else {}

    def reported_job(self, name: str) -> str:
        """The training that made this one again from all source patients, where there is one; else this one."""
        return self._again.get(str(name), str(name))

    def label(self, strategy: str) -> str:
        """The title of a strategy, or its name where the study no longer holds it."""
        return next((candidate.label for candidate in self.study.strategies if candidate.name == strategy), strategy)

    def path(self, name: str) -> Path | None:
        """A file of the run, ``None`` where it is missing or lies outside the run directory."""
        path = (self.folder / name).resolve()
        return path if path.is_file() and path.is_relative_to(self.folder.resolve()) else None
