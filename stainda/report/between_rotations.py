"""Tables that set the rotations of a study side by side; a study of one rotation does not have them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.evaluation import ScoreCube, difference, holm
from stainda.evaluation.metrics import direction
from stainda.evaluation.scores import nanmean
from stainda.report import data_tables
from stainda.report.figure_registry import add_table, register_score_table, register_table
from stainda.report.rotation_matrix import domains_in_order
from stainda.report.run import SPLITS, LoadedRun, RotationResult
from stainda.report.study_view import StudyView
from stainda.report.summary_text import PRIMARY, measure_title
from stainda.report.tables import (
    Cell,
    PageTable,
    decimal,
    ends,
    number,
    p_value,
    plain_table,
    signed,
    spread_words,
    text,
)
from stainda.run_directory.contents import REPORT
from stainda.run_directory.training_tables import BUDGET


@dataclass(frozen=True)
class OwnAnswer:
    """What one rotation says by itself: its best strategy without target labels, paired by patient.

    Attributes:
        baseline: mean of the baseline over its patients, as ``mean`` of ``strategy``; ``nan`` without.
        p_holm: adjusted for the ``compared`` strategies of this rotation.
    """

    n_patients: int = 0
    baseline: float = np.nan
    strategy: str = ""
    mean: float = np.nan
    difference: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p_holm: float = np.nan
    compared: int = 0
    answer: str = ""
    interval_kind: str = ""


@dataclass(frozen=True)
class _Scores:
    """The scores of one rotation: those of its test patients on what it is tested on.

    Attributes:
        patients: bool, which patients of the cube; it holds those of all folds where the rotation is one of several.
    """

    cube: ScoreCube
    domains: list[str]
    patients: npt.NDArray[np.bool_]

    def runs(self, *names: str) -> list[npt.NDArray[np.float64]]:
        """Of several strategies on what all have, each float (trainings, patients, 1)."""
        common = self.cube.common([self.cube.strategies.index(name) for name in names])
        result = common.runs_over(self.domains, common.classes)[:, :, self.patients]
        return [block[:size, :, None] for block, size in zip(result, common.seeds, strict=True)]

    @property
    def tested(self) -> int:
        """Patients with records."""
        where = [self.cube.domains.index(name) for name in self.domains]
        return int(self.cube.present[:, self.patients][:, :, where].any(axis=(0, 2, 3)).sum())


def own_answers(view: StudyView, measure: str = PRIMARY) -> dict[str, OwnAnswer]:
    """Of every scored rotation, from the scores of its own test patients on its own targets."""
    groups = {member.name: group for group in view.analysis.groups for member in group.members}
    cube, answers = view.analysis.cubes[measure], {}
    for rotation in view.run.scored:
        group = groups[rotation.name]
        own = (group.label,) if view.by_rotation else group.tested
        folded = len(group.members) > 1
        mine = np.array([name in rotation.patients["test"] or not folded for name in cube.patients])
        answers[rotation.name] = _own_answer(view, _Scores(cube, [name for name in own if name in cube.domains], mine))
    return answers


def _own_answer(view: StudyView, scores: _Scores) -> OwnAnswer:
    study, base, cube, runs = view.run.study, view.look.baseline, scores.cube, scores.runs
    sign, tested = direction(cube.measure), scores.tested
    if base not in cube.strategies or not np.isfinite(runs(base)[0]).any():
        return OwnAnswer(tested, answer="the baseline has no score")
    mean = float(nanmean(runs(base)[0].mean(axis=0)[:, 0], axis=0))
    differences = {}
    for name in view.look.contenders(view.look.present(list(cube.strategies))):
        if name != base:
            strategy_runs, baseline_runs = runs(name, base)
            apart = difference(strategy_runs, baseline_runs, study.evaluation)
            if apart.n[0]:
                differences[name] = apart
    if not differences:
        return OwnAnswer(tested, mean, answer="nothing to compare")
    adjusted = dict(zip(differences, holm(np.array([estimate.p[0] for estimate in differences.values()])), strict=True))
    top = max(differences, key=lambda name: sign * differences[name].mean[0])
    best, p = differences[top], float(adjusted[top])
    gain = sign * float(best.mean[0])
    shown = np.isfinite(p) and p <= 1 - study.evaluation.level
    answer = "none better" if gain <= 0 else "shown to be better" if shown else "not shown to differ"
    if not np.isfinite(p) and gain > 0:
        answer = "one patient: no test" if best.n[0] < 2 else "no test"
    reached = float(nanmean(runs(top)[0].mean(axis=0)[:, 0], axis=0))
    return OwnAnswer(
        int(best.n[0]), mean, top, reached, float(best.mean[0]), float(best.low[0]), float(best.high[0]), p,
        len(differences), answer, best.kinds[0],
    )  # fmt: skip


def rotations(run: LoadedRun, answers: dict[str, OwnAnswer]) -> PageTable:
    """One row per rotation: who taught, what was tested, its own answer, and its page where that is there."""
    title = measure_title(PRIMARY)
    shown, frame = [], []
    for place in run.rotations:
        own = answers.get(place.name, OwnAnswer())
        label = run.label(own.strategy) if own.strategy else ""
        shown.append(
            [
                Cell(place.name.replace("_", "\u00a0"), sort=place.name, link=page_link(run, place)),
                text(", ".join(place.sources)),
                text(", ".join(place.targets) or ("the same, in other patients" if place.sources else "")),
                Cell(str(own.n_patients) if place.scored else "", sort=own.n_patients, number=True),
                number(own.baseline),
                Cell(label, decimal(own.mean), label.lower()),
                Cell(signed(own.difference), ends(asdict(own)), _sort(own.difference), True),
                Cell(p_value(own.p_holm), sort=_sort(own.p_holm), number=True),
                text(own.answer),
                text(": ".join(filter(None, [place.status, place.reason])), reason=True),
            ]
        )
        frame.append(
            {
                "rotation": place.name, "sources": "; ".join(place.sources), "targets": "; ".join(place.targets),
                **asdict(own), "state": place.status, "reason": place.reason,
            }
        )  # fmt: skip
    columns = [
        "Rotation", "Labels from", "Tested on", "Patients", "Baseline", "Highest\nwithout target labels",
        "− baseline", "p, Holm", "By itself", "State",
    ]  # fmt: skip
    note = (
        f"{title} of a patient: its mean over the targets of the rotation. Paired by patient; p: test over patients "
        "and trainings, adjusted for the strategies of that rotation alone, so several rows together promise less "
        "than each."
    )
    caption = f"Every rotation by itself ({title}), with the page of its own."
    return PageTable(f"rotations_{PRIMARY}", caption, columns, shown, pd.DataFrame(frame), note)


def _with_answers(run: LoadedRun, view: StudyView | None, measure: str) -> PageTable:
    return rotations(run, {} if view is None else own_answers(view))


add_table("rotations", _with_answers, rotations="several")


def page_link(run: LoadedRun, place: RotationResult) -> str:
    """From ``ROOT/report/index.html`` to the page of a rotation; empty where there is none."""
    folder = run.folder
    page = REPORT.at(folder / place.folder) if place.folder else folder
    if not page.is_file() or not page.resolve().is_relative_to(folder.resolve()):
        return ""
    return quote(f"../{place.folder}/{REPORT.path}")


@register_table("splits", rotations="several")
def splits(run: LoadedRun) -> PageTable:
    """Who served for what in each rotation."""
    words = {"train": "Training", "val": "Validation", "test": "Test"}
    places = run.begun
    shown = [
        [
            Cell(place.name.replace("_", "\u00a0"), sort=place.name),
            *(
                Cell(str(len(place.patients[split])), ", ".join(place.patients[split]), len(place.patients[split]))
                for split in SPLITS
            ),
        ]
        for place in places
    ]
    frame = pd.DataFrame(
        [{"rotation": place.name, **{split: "; ".join(place.patients[split]) for split in SPLITS}} for place in places]
    )
    note = "Test patients of domains that are no targets of a rotation are not in its answer."
    return PageTable("splits", "Patients of each rotation by split.", ["Rotation", *words.values()], shown, frame, note)


@register_table("domains", rotations="several")
def domains(run: LoadedRun) -> PageTable | None:
    """One row per domain: its slides, patients and objects, and in how many rotations it teaches and is tested."""
    cohort, begun = run.cohort, run.begun
    if cohort.empty:
        return None
    objects = data_tables.annotated_objects(run)
    rows = []
    for domain, slides in cohort.groupby("domain", sort=False):
        row: dict[str, Any] = {
            "domain": domain, "slides": len(slides), "patients": slides["patient"].nunique(),
            "teaches": sum(domain in rotation.sources for rotation in begun),
            "tested": sum(domain in (rotation.targets or rotation.sources) for rotation in begun),
        }  # fmt: skip
        for name in run.study.task.classes:
            row[f"objects_{name}"] = int(sum(objects.get(slide, {}).get(name, 0) for slide in slides["slide"]))
        rows.append(row)
    titles = {
        "domain": "Domain", "slides": "Slides", "patients": "Patients", "teaches": "Rotations it teaches",
        "tested": "Rotations it is tested in",
    }  # fmt: skip
    titles |= {
        f"objects_{name}": f"{name.replace('_', ' ').capitalize()}: annotated" for name in run.study.task.classes
    }
    digits = {name: 0 for name in titles if name != "domain"}
    caption = f"Domains of the study, in {len(begun)} rotation{'s' * (len(begun) != 1)}."
    return plain_table("domains", caption, pd.DataFrame(rows), titles, digits)


@register_score_table("pairs", "Sources to targets", rotations="several")
def pairs(view: StudyView, measure: str) -> PageTable:
    """From the sources of each rotation to each domain, every strategy: the matrix as a table."""
    rows = view.pairs(measure)
    names = view.look.present(list(rows["strategy"].unique()))
    cells = rows.set_index(["rotation", "domain", "strategy"])
    order = domains_in_order(view)
    shown = []
    for group in view.analysis.groups:
        mine = rows[rows["rotation"] == group.name]
        for domain in [name for name in order if name in set(mine["domain"])]:
            line = [text(group.label), Cell(domain, "" if domain in group.tested else "source", domain.lower())]
            for name in names:
                key = (group.name, domain, name)
                if key in cells.index:
                    row = cells.loc[key]
                    line.append(Cell(decimal(row["mean"]), ends(row), float(row["mean"]), True))
                else:
                    line.append(Cell("–", number=True))
            n = mine.loc[mine["domain"] == domain, "n_patients"].max()
            shown.append([*line, number(n, 0)])
    columns = ["Rotation", "Tested on", *[view.run.label(name) for name in names], "Patients"]
    caption = f"{measure_title(measure)} from the sources of each rotation to each domain: mean over test patients."
    note = f"Below each mean: {spread_words(rows['interval_kind'], view.level)}."
    return PageTable(f"pairs_{measure}", caption, columns, shown, rows, note)


@register_table("budget", rotations="several")
def budget(run: LoadedRun) -> PageTable | None:
    """What every strategy was given over all rotations."""
    frame = run.tables[BUDGET.path]
    if frame.empty:
        return None
    frame = frame.assign(title=[run.label(str(name)) for name in frame["strategy"]])
    titles = {
        "title": "Strategy", "trials": "Trials", "seeds": "Seeds", "steps": "Steps at most",
        "labelled": "Labelled patches", "unlabelled": "Unlabelled patches", "rotations": "Rotations",
        "jobs": "Trainings in all", "note": "Note",
    }  # fmt: skip
    digits = dict.fromkeys(["trials", "seeds", "steps", "labelled", "unlabelled", "rotations", "jobs"], 0)
    frame["note"] = frame["note"].fillna("") if "note" in frame else ""
    note = "Trials, seeds and patches: of each rotation, and of each step; counted before the start."
    return plain_table("budget", "The budget of every strategy.", frame, titles, digits, note)


def _sort(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
