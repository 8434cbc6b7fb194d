"""Tables of a study of several rotations that a single study does not have."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from stainda.evaluation import holm, intervals, sign_flip_test
from stainda.evaluation.summary import ALL_TARGETS
from stainda.randomness import generator_for
from stainda.report import data_tables
from stainda.report.exclusions import pruned_trials
from stainda.report.result_tables import strategy_cell
from stainda.report.rotations import SPLITS, Place, Root, RootView
from stainda.report.rotations_kinds import domains_in_order, worst_pairs
from stainda.report.study_view import measure_of
from stainda.report.tables import Cell, Table, decimal, number, p_value, plain_table, signed, span, text
from stainda.report.words import PRIMARY, headline, listed, measure_title


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


def own_answers(view: RootView, measure: str = PRIMARY) -> dict[str, OwnAnswer]:
    """Of every scored rotation, from the scores of its own test patients on its own targets."""
    rows = headline(view.analysis.patients, measure)
    labels = {turn.name: group.label for group in view.together.groups for turn in group.members}
    many = {turn.name for group in view.together.groups if len(group.members) > 1 for turn in group.members}
    found = {}
    for place in view.known.scored:
        mine = rows[rows["domain"] == (ALL_TARGETS if view.known.one_cohort else labels[place.name])]
        table = mine.pivot_table(index="patient", columns="strategy", values="value")
        if place.name in many:  # the rows are those of all folds
            table = table.loc[[name for name in table.index if name in place.patients["test"]]]
        found[place.name] = _own_answer(view, table, measure)
    return found


def _own_answer(view: RootView, table: pd.DataFrame, measure: str) -> OwnAnswer:
    study, base = view.run.study, view.look.baseline
    sign = 1.0 if measure_of(measure).higher_is_better else -1.0
    names = [name for name in view.look.contenders(view.look.present(list(table.columns))) if name != base]
    if base not in table.columns or table[base].notna().sum() == 0:
        return OwnAnswer(len(table), answer="the baseline has no score")
    mean = float(table[base].mean())
    differences = table[names].sub(table[base], axis=0).to_numpy(float)
    names = [name for name, column in zip(names, differences.T, strict=True) if np.isfinite(column).any()]
    if not names:
        return OwnAnswer(len(table), mean, answer="nothing to compare")
    differences = table[names].sub(table[base], axis=0).to_numpy(float)
    settings = study.evaluation
    spread = intervals(
        differences, generator_for(study.seed, "bootstrap"), resamples=settings.resamples, level=settings.level,
        method=settings.interval,
    )  # fmt: skip
    adjusted = holm(sign_flip_test(differences, generator_for(study.seed, "sign flips")).p)
    top = int(np.nanargmax(sign * spread.mean))
    gain, p = sign * float(spread.mean[top]), float(adjusted[top])
    shown = np.isfinite(p) and p <= 1 - settings.level
    answer = "none better" if gain <= 0 else "shown to be better" if shown else "not shown to differ"
    if int(spread.n[top]) < 2 and gain > 0:
        answer = "one patient: no test"
    return OwnAnswer(
        int(spread.n[top]), mean, names[top], float(table[names[top]].mean()), float(spread.mean[top]),
        float(spread.low[top]), float(spread.high[top]), p, len(names), answer,
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
                Cell(signed(one.difference), span(one.low, one.high), _sort(one.difference), True),
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
        f"{title} of a patient: its mean over the targets of the rotation. Paired by patient; p: two-sided sign-flip "
        "test, adjusted for the strategies of that rotation alone, so several rows together promise less than each."
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
                    line.append(Cell(decimal(row["mean"]), span(row["low"], row["high"]), float(row["mean"]), True))
                else:
                    line.append(Cell("–", number=True))
            n = mine.loc[mine["domain"] == domain, "n_patients"].max()
            shown.append([*line, number(n, 0)])
    columns = ["Rotation", "Tested on", *[view.run.label(name) for name in names], "Patients"]
    caption = f"{measure_title(measure)} from the sources of each rotation to each domain: mean over test patients."
    note = f"Below each mean its {view.level} patient-bootstrap interval; none with one patient."
    return Table(f"pairs_{measure}", caption, columns, shown, rows, note)


def worst(view: RootView, measure: str) -> Table:
    """The worst pair of sources and target of each strategy."""
    rows = worst_pairs(view, measure)
    rows = rows[rows["worst"]].set_index("strategy")
    means = view.overall(measure)["mean"]
    shown = [
        [
            strategy_cell(view.run, name), text(row["domain"]),
            Cell(decimal(row["mean"]), span(row["low"], row["high"]), float(row["mean"]), True),
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
