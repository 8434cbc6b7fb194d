"""Tables of a study of several rotations that a single study does not have."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.evaluation import ScoreCube, difference, holm
from stainda.evaluation.metrics import direction
from stainda.evaluation.scores import nanmean
from stainda.randomness import generator_for
from stainda.report import data_tables
from stainda.report.exclusions import pruned_trials
from stainda.report.result_tables import strategy_cell
from stainda.report.rotations import SPLITS, Place, Root, RootView
from stainda.report.rotations_kinds import domains_in_order, worst_pairs
from stainda.report.study_view import measure_of
from stainda.report.tables import Cell, Table, decimal, ends, number, p_value, plain_table, signed, spread_words, text
from stainda.report.words import PRIMARY, listed, measure_title


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


def own_answers(view: RootView, measure: str = PRIMARY) -> dict[str, OwnAnswer]:
    """Of every scored rotation, from the scores of its own test patients on its own targets."""
    labels = {turn.name: group for group in view.together.groups for turn in group.members}
    cube, found = view.together.cubes[measure], {}
    for place in view.known.scored:
        group = labels[place.name]
        own = group.tested if view.known.one_cohort else (group.label,)
        domains = [name for name in own if name in cube.domains]
        # a rotation that is one fold of several: the cube holds the patients of all folds
        folded = len(group.members) > 1
        mine = [name in place.patients["test"] or not folded for name in cube.patients]
        found[place.name] = _own_answer(view, cube, domains, np.array(mine), measure)
    return found


def _own_answer(
    view: RootView, cube: ScoreCube, domains: list[str], mine: npt.NDArray[np.bool_], measure: str
) -> OwnAnswer:
    study, base = view.run.study, view.look.baseline
    sign = direction(measure)

    def runs(*names: str) -> list[npt.NDArray[np.float64]]:
        common = cube.common([cube.strategies.index(name) for name in names])
        found = common.runs_over(domains, common.classes)[:, :, mine]
        return [one[:size, :, None] for one, size in zip(found, common.seeds, strict=True)]

    tested = int(cube.present[:, mine][:, :, [cube.domains.index(name) for name in domains]].any(axis=(0, 2, 3)).sum())
    if base not in cube.strategies or not np.isfinite(runs(base)[0]).any():
        return OwnAnswer(tested, answer="the baseline has no score")
    mean = float(nanmean(runs(base)[0].mean(axis=0)[:, 0], axis=0))
    made = {}
    for name in view.look.contenders(view.look.present(list(cube.strategies))):
        if name != base:
            one, other = runs(name, base)
            apart = difference(one, other, study.evaluation, generator_for(study.seed, "bootstrap"))
            if apart.n[0]:
                made[name] = apart
    if not made:
        return OwnAnswer(tested, mean, answer="nothing to compare")
    adjusted = dict(zip(made, holm(np.array([one.p[0] for one in made.values()])), strict=True))
    top = max(made, key=lambda name: sign * made[name].mean[0])
    best, p = made[top], float(adjusted[top])
    gain = sign * float(best.mean[0])
    shown = np.isfinite(p) and p <= 1 - study.evaluation.level
    answer = "none better" if gain <= 0 else "shown to be better" if shown else "not shown to differ"
    if not np.isfinite(p) and gain > 0:
        answer = "one patient: no test" if best.n[0] < 2 else "no test"
    reached = float(nanmean(runs(top)[0].mean(axis=0)[:, 0], axis=0))
    return OwnAnswer(
        int(best.n[0]), mean, top, reached, float(best.mean[0]), float(best.low[0]), float(best.high[0]), p, len(made),
        answer, best.kinds[0],
    )  # fmt: skip


def rotations(root: Root, answers: dict[str, OwnAnswer], measure: str = PRIMARY) -> Table:
    """One row per rotation: who taught, what was tested, its own answer, and its page where that is there."""
    title = measure_title(measure)
    shown, frame = [], []
    for place in root.places:
        one = answers.get(place.name, OwnAnswer())
        label = root.run.label(one.strategy) if one.strategy else ""
        shown.append(
            [
                Cell(place.name.replace("_", "\u00a0"), sort=place.name, link=page_link(root, place)),
                text(", ".join(place.sources)),
                text(", ".join(place.targets) or ("the same, in other patients" if place.sources else "")),
                Cell(str(one.n_patients) if place.scored else "", sort=one.n_patients, number=True),
                number(one.baseline),
                Cell(label, decimal(one.mean), label.lower()),
                Cell(signed(one.difference), ends(asdict(one)), _sort(one.difference), True),
                Cell(p_value(one.p_holm), sort=_sort(one.p_holm), number=True),
                text(one.answer),
                text(": ".join(filter(None, [place.told, place.reason])), reason=True),
            ]
        )
        frame.append(
            {
                "rotation": place.name, "sources": "; ".join(place.sources), "targets": "; ".join(place.targets),
                **asdict(one), "state": place.told, "reason": place.reason,
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
    return Table(f"rotations_{measure}", caption, columns, shown, pd.DataFrame(frame), note)


def page_link(root: Root, place: Place) -> str:
    """From ``ROOT/report/index.html`` to the page of a rotation; empty where there is none."""
    folder = root.run.folder
    page = folder / place.folder / "report" / "index.html" if place.folder else folder
    if not page.is_file() or not page.resolve().is_relative_to(folder.resolve()):
        return ""
    return quote(f"../{place.folder}/report/index.html")


def splits(root: Root) -> Table:
    """Who served for what in each rotation."""
    words = {"train": "Training", "val": "Validation", "test": "Test"}
    places = [one for one in root.places if one.folder]
    shown = [
        [
            Cell(one.name.replace("_", "\u00a0"), sort=one.name),
            *(
                Cell(str(len(one.patients[split])), ", ".join(one.patients[split]), len(one.patients[split]))
                for split in SPLITS
            ),
        ]
        for one in places
    ]
    frame = pd.DataFrame(
        [{"rotation": one.name, **{split: "; ".join(one.patients[split]) for split in SPLITS}} for one in places]
    )
    note = "Test patients of domains that are no targets of a rotation are not in its answer."
    return Table("splits", "Patients of each rotation by split.", ["Rotation", *words.values()], shown, frame, note)


def domains(root: Root) -> Table | None:
    """One row per domain: its slides, patients and objects, and in how many rotations it teaches and is tested."""
    cohort = root.run.cohort
    if cohort.empty:
        return None
    objects = data_tables.annotated_objects(root.run)
    begun = [one for one in root.places if one.folder]
    rows = []
    for domain, slides in cohort.groupby("domain", sort=False):
        row: dict[str, Any] = {
            "domain": domain, "slides": len(slides), "patients": slides["patient"].nunique(),
            "teaches": sum(domain in one.sources for one in begun),
            "tested": sum(domain in (one.targets or one.sources) for one in begun),
        }  # fmt: skip
        for name in root.run.study.task.classes:
            row[f"objects_{name}"] = int(sum(objects.get(slide, {}).get(name, 0) for slide in slides["slide"]))
        rows.append(row)
    titles = {
        "domain": "Domain", "slides": "Slides", "patients": "Patients", "teaches": "Rotations it teaches",
        "tested": "Rotations it is tested in",
    }  # fmt: skip
    titles |= {
        f"objects_{name}": f"{name.replace('_', ' ').capitalize()}: annotated" for name in root.run.study.task.classes
    }
    digits = {name: 0 for name in titles if name != "domain"}
    caption = f"Domains of the study, in {len(begun)} rotation{'s' * (len(begun) != 1)}."
    return plain_table("domains", caption, pd.DataFrame(rows), titles, digits)


def pairs(view: RootView, measure: str) -> Table:
    """From the sources of each rotation to each domain, every strategy: the matrix as a table."""
    view.rows(measure)
    rows = view.pairs(measure)
    names = view.look.present(list(rows["strategy"].unique()))
    cells = rows.set_index(["rotation", "domain", "strategy"])
    order = domains_in_order(view)
    shown = []
    for group in view.together.groups:
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
    return Table(f"pairs_{measure}", caption, columns, shown, rows, note)


def worst(view: RootView, measure: str) -> Table:
    """The worst pair of sources and target of each strategy."""
    rows = worst_pairs(view, measure)
    rows = rows[rows["worst"]].set_index("strategy")
    means = view.overall(measure)["mean"]
    shown = [
        [
            strategy_cell(view.run, name), text(row["domain"]),
            Cell(decimal(row["mean"]), ends(row), float(row["mean"]), True),
            number(means.get(name, np.nan)), number(row["n_patients"], 0),
        ]
        for name, row in ((name, rows.loc[name]) for name in view.look.present(list(rows.index)))
    ]  # fmt: skip
    title = measure_title(measure)
    low = "lowest" if measure_of(measure).higher_is_better else "highest"
    columns = ["Strategy", "Worst", f"{title} there", "All targets", "Patients there"]
    caption = f"The pair of sources and target with the {low} mean {title} of each strategy."
    return Table(f"worst_pair_{measure}", caption, columns, shown, rows.reset_index())


def budget(root: Root) -> Table | None:
    """What every strategy was given over all rotations."""
    if root.budget.empty:
        return None
    frame = root.budget.assign(title=[root.run.label(str(name)) for name in root.budget["strategy"]])
    titles = {
        "title": "Strategy", "trials": "Trials", "seeds": "Seeds", "steps": "Steps at most",
        "labelled": "Labelled patches", "unlabelled": "Unlabelled patches", "rotations": "Rotations",
        "jobs": "Trainings in all", "note": "Note",
    }  # fmt: skip
    digits = dict.fromkeys(["trials", "seeds", "steps", "labelled", "unlabelled", "rotations", "jobs"], 0)
    frame["note"] = frame["note"].fillna("") if "note" in frame else ""
    note = "Trials, seeds and patches: of each rotation, and of each step; counted before the start."
    return plain_table("budget", "The budget of every strategy.", frame, titles, digits, note)


def left_out(root: Root) -> Table | None:
    """Rotations without results, trainings that failed or fell back, sections refused, files that are missing."""
    rows: list[dict[str, str]] = []
    for place in root.places:
        if place.told != "complete":
            reason = place.reason or ("its test patients are not scored yet" if not place.scored else "")
            rows.append({"stage": "rotation", "what": place.name, "status": place.told, "reason": reason})
    known = set()
    for row in root.run.trials.to_dict("records"):
        if str(row["reason"]):
            known.add((row["rotation"], str(row["job"])))
            what = f"{row['rotation']}: {root.run.label(row['strategy'])}, trial {row['trial']}, seed {row['seed']}"
            rows.append({"stage": "training", "what": what, "status": row["state"], "reason": row["reason"]})
    rows += pruned_trials(root.run)
    excluded = root.run.tables["exclusions.csv"]
    if len(excluded):
        known |= set(zip(excluded["rotation"], excluded["job"], strict=True))
    by_folder = {place.folder.split("/")[-1]: place.name for place in root.places if place.folder}
    for job in root.run.jobs.values():
        where = job.folder.parent.parent.name
        name = by_folder.get(where, where)
        if job.error and (name, job.name) not in known:
            what = f"{name}: job {job.name}"
            rows.append({"stage": "training", "what": what, "status": "failed", "reason": job.error})
        for slide, reason in (job.result.get("fallbacks") or {}).items():
            what = f"{name}: colours of {slide}, job {job.name}"
            rows.append({"stage": "training", "what": what, "status": "fell back", "reason": str(reason)})
    bare = replace(root.run, jobs={}, tables={**root.run.tables, "trials.csv": root.run.trials.iloc[:0]})
    of_the_cohort = data_tables.left_out(bare)
    if of_the_cohort is not None:
        rows += of_the_cohort.frame.to_dict("records")
    if not rows:
        return None
    titles = {"stage": "Stage", "what": "What", "status": "Status", "reason": "Reason"}
    caption = "Not run, failed, refused, skipped, not reported or fallen back."
    return plain_table("left_out", caption, pd.DataFrame(rows).drop_duplicates(), titles)


def of_rotations(table: Table | None, view: RootView, caption: str = "") -> Table | None:
    """A table of a single study with rotations where that has domains."""
    if table is None or view.known.one_cohort:
        return table
    columns = ["Rotation" if one == "Domain" else one for one in table.columns]
    words = table.note.replace("in single domains", "in single rotations").replace(
        "strategies × single domains", "strategies × single rotations"
    )
    shown = caption or table.caption.replace("strategy and domain", "strategy and rotation")
    return replace(table, columns=columns, note=words, caption=shown)


def names_of(places: list[Place]) -> str:
    """Names of rotations, as in a sentence."""
    return listed([one.name.replace("_", " ") for one in places])


def _sort(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
