"""Reading the run directory of a study of several rotations, and looking at it as at one study."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stainda.config import StudyConfig, read_yaml
from stainda.config.load import validated
from stainda.errors import RecordError
from stainda.evaluation import Rotation, Together, analyse_rotations, gather_records, read_records
from stainda.evaluation.insights import Insights
from stainda.evaluation.rotations import insights_of_rotations
from stainda.report.run import COLUMNS, Job, Run, _job, _json, _table, with_earlier_strategies
from stainda.report.study_view import View, make_look
from stainda.report.words import PRIMARY

ROTATION_COLUMNS = ("rotation", "group", "folder", "sources", "targets", "train", "val", "test", "state", "reason")
SPLITS = ("train", "val", "test")
_OF_THE_ROOT = {
    "cohort.csv", "stages.csv", "registration/quality.csv", "registration/landmarks.csv", "annotations/annotators.csv",
    "annotations/annotator_agreement.csv",
}  # fmt: skip
"""Tables that a root has of its own; the others are made in each rotation."""


@dataclass(frozen=True)
class Place:
    """One row of rotations.csv.

    Attributes:
        state: ``complete``, ``failed``, ``left out``, ``until STAGE``; empty where it was not begun.
        scored: there are records of its test patients.
    """

    name: str
    group: str
    folder: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    patients: dict[str, tuple[str, ...]]
    state: str
    reason: str
    scored: bool

    @property
    def told(self) -> str:
        """Its state, in words."""
        if self.state in ("", "complete"):
            return "complete" if self.scored and self.state else "scored" if self.scored else "not run"
        return self.state


@dataclass(frozen=True)
class Root:
    """A study of several rotations in memory.

    Attributes:
        run: its study, environment, cohort and registration as those of a run; trials and jobs of all rotations.
        together: ``None`` where no test patient was scored yet.
        trained: finished trainings of all rotations.
    """

    run: Run
    places: tuple[Place, ...]
    together: Together | None
    trained: int
    budget: pd.DataFrame

    @property
    def scored(self) -> tuple[Place, ...]:
        return tuple(one for one in self.places if one.scored)

    @property
    def missing(self) -> tuple[Place, ...]:
        """Rotations that say nothing, and are not left out for good."""
        return tuple(one for one in self.places if not one.scored and one.state != "left out")

    @property
    def one_cohort(self) -> bool:
        """One set of sources (one rotation, or its folds): the tables are those of a study of one rotation."""
        return self.together is not None and len(self.together.groups) == 1

    @property
    def folds(self) -> bool:
        """One cohort of several folds."""
        return self.together is not None and self.one_cohort and len(self.together.groups[0].members) > 1

    @property
    def noun(self) -> str:
        """What the columns of its tables are."""
        return "domain" if self.one_cohort else "rotation"


@dataclass(frozen=True)
class RootView(View):
    """All rotations, looked at as one study; ``analysis`` is that of :class:`~stainda.evaluation.Together`."""

    root: Root | None = None

    @property
    def known(self) -> Root:
        assert self.root is not None and self.root.together is not None
        return self.root

    @property
    def together(self) -> Together:
        assert self.root is not None and self.root.together is not None
        return self.root.together

    def insights(self, measure: str = PRIMARY) -> Insights:
        if measure not in self.cache:
            self.rows(measure)
            self.cache[measure] = insights_of_rotations(self.together, self.run.study, measure)
        return self.cache[measure]

    def pairs(self, measure: str = PRIMARY) -> pd.DataFrame:
        """From sources to domains, of the class the answer speaks of, those with a mean."""
        from stainda.report.words import headline

        rows = headline(self.together.pairs, measure)
        return rows[np.isfinite(rows["mean"])]


def kind_of_study(view: View) -> str:
    """What "all targets" means in a study, in words."""
    if not isinstance(view, RootView):
        return "a study of one rotation"
    return f"a study of several rotations ({view.run.study.protocol.scheme})"


def is_root(folder: str | Path) -> bool:
    """Whether a run directory is that of a study of several rotations."""
    return (Path(folder) / "rotations.csv").is_file()


def load_root(folder: str | Path) -> Root:
    """Read a study of several rotations, from the folders of its rotations.

    Raises:
        RecordError: ``folder`` is no such run directory, or one of its tables lacks a column.
        ConfigError: study.yaml is not a study.
    """
    folder = Path(folder)
    if not is_root(folder):
        raise RecordError("not a study of several rotations: there is no rotations.csv in it", file=folder)
    study = validated(StudyConfig, read_yaml(folder / "study.yaml"), folder / "study.yaml")
    places, turns, jobs, trials = [], [], dict[str, Job](), []
    inner: list[Path] = []
    exclusions: list[pd.DataFrame] = []
    trained = 0
    for row in _rotations(folder).to_dict("records"):
        place = _place(row, scored=False)
        inside = folder / place.folder
        if place.folder and inside.resolve().is_relative_to(folder.resolve()) and (inside / "study.yaml").is_file():
            turn = _turn(place, inside)
            scored = bool((turn.records["split"] == "test").any())
            place = replace(place, scored=scored)
            turns += [turn] if scored else []
            trials += [] if turn.trials is None else [turn.trials.assign(rotation=place.name)]
            mine = {path.name: _job(path) for path in sorted((inside / "jobs").glob("*")) if path.is_dir()}
            trained += sum(job.done or bool(job.result) for job in mine.values())
            jobs |= mine
            inner.append(inside)
            told = _table(inside, "exclusions.csv", {}).assign(rotation=place.name)
            exclusions.append(told if turn.trials is None else told[~told["job"].isin(set(turn.trials["job"]))])
        places.append(place)
    named = study
    if trials:
        study = with_earlier_strategies(study, pd.concat(trials, ignore_index=True), *inner)
    earlier = tuple(one.name for one in study.strategies[len(named.strategies) :])
    together = analyse_rotations(turns, study) if turns else None
    missing: dict[str, str] = {}
    tables = {name: _table(folder, name, missing if name in _OF_THE_ROOT else {}) for name in COLUMNS}
    if trials:
        tables["trials.csv"] = pd.concat(trials, ignore_index=True)
    if exclusions:
        tables["exclusions.csv"] = pd.concat(exclusions, ignore_index=True)
    records = together.records if together else gather_records([])
    run = Run(folder, study, _json(folder / "environment.json"), tables, records, jobs, missing, earlier=earlier)
    budget = pd.read_csv(folder / "budget.csv") if (folder / "budget.csv").is_file() else pd.DataFrame()
    return Root(run, tuple(places), together, trained, budget)


def root_view(root: Root) -> RootView:
    """The statistics of all rotations.

    Raises:
        RecordError: no test patient was scored in any rotation.
    """
    if root.together is None:
        raise RecordError(
            "no rotation has records of test patients yet", file=root.run.folder,
            remedy="Run 'stainda run' to its end first",
        )  # fmt: skip
    return RootView(root.run, root.together.analysis, make_look(root.run), root=root)


def _rotations(folder: Path) -> pd.DataFrame:
    path = folder / "rotations.csv"
    try:
        table = pd.read_csv(path, dtype=str).fillna("")
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordError(f"not a readable table ({error})", file=path, remedy="Run the study again") from error
    if lacking := [name for name in ROTATION_COLUMNS if name not in table.columns]:
        raise RecordError(f"columns {', '.join(lacking)} are missing", file=path, remedy="Run the study again")
    return table


def _place(row: dict[str, Any], scored: bool) -> Place:
    def several(name: str) -> tuple[str, ...]:
        return tuple(filter(None, str(row[name]).split("; ")))

    return Place(
        row["rotation"], row["group"] or row["rotation"], row["folder"], several("sources"), several("targets"),
        {split: several(split) for split in SPLITS}, row["state"], row["reason"], scored,
    )  # fmt: skip


def _turn(place: Place, folder: Path) -> Rotation:
    """What a rotation has so far; without records where it was not evaluated."""
    trials = _table(folder, "trials.csv", {})
    if len(trials):
        trials["chosen"] = trials["chosen"].astype(str).str.lower().isin(["true", "1", "1.0", "yes"])
        trials["value"] = pd.to_numeric(trials["value"], errors="coerce")
    unsupervised = _table(folder, "unsupervised.csv", {})
    path = folder / "records.parquet"
    records = read_records(path) if path.is_file() else gather_records([])
    return Rotation(
        place.name, place.group, place.sources, place.targets, records, trials if len(trials) else None,
        unsupervised if len(unsupervised) else None,
    )  # fmt: skip
