"""Tables about what came out: scores, differences, gap closed, selection, settings, cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from stainda.evaluation.groups import ceiling_of, few_labels, group_of
from stainda.evaluation.selection import DEFAULT_RULE, BeforeRefit, compared_rules
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.figure_registry import register_score_table, register_table
from stainda.report.run import LoadedRun
from stainda.report.study_view import StudyView
from stainda.report.summary_text import headline, headline_class, measure_title, percent
from stainda.report.tables import (
    Cell,
    PageTable,
    decimal,
    ends,
    footnoted,
    number,
    p_value,
    plain_table,
    signed,
    spread_words,
    text,
)


def shown_rows(view: StudyView, measure: str, selection: str = DEFAULT_RULE) -> pd.DataFrame:
    """Results whose regions are panels and columns: of rotations those on targets, of domains all."""
    rows = view.rows(measure, selection)
    return rows[rows["role"].eq("target") & np.isfinite(rows["mean"])] if view.by_rotation else rows


def regions(results: pd.DataFrame) -> list[str]:
    """Columns of the strategy tables: all targets, the sources, then every target domain."""
    result = list(dict.fromkeys(results["domain"]))
    roles = results.drop_duplicates("domain").set_index("domain")["role"]
    singles = [name for name in result if name not in (ALL_TARGETS, ALL_SOURCES)]
    sources = [name for name in singles if roles[name] == "source"]
    targets = [name for name in singles if roles[name] != "source"]
    overall = [ALL_TARGETS] if ALL_TARGETS in result and len(targets) > 1 else []
    together = [ALL_SOURCES] if ALL_SOURCES in result and len(sources) > 1 else []
    return overall + together + sources + targets


@register_score_table("strategies")
def strategies_by_domain(view: StudyView, measure: str) -> PageTable:
    """Mean and interval of every strategy in every domain, or rotation, under the default rule."""
    run, look = view.run, view.look
    rows = headline(view.analysis.results, measure)
    places = regions(rows)
    cells = rows.set_index(["strategy", "domain"])
    shown: list[list[Cell]] = []
    for name in look.present(list(rows["strategy"])):
        line = [strategy_cell(run, name)]
        for place in places:
            line.append(score_cell(cells, (name, place)))
        shown.append(line)
    counts = {place: int(rows.loc[rows["domain"] == place, "n_patients"].max()) for place in places}
    titles = ["Strategy", *[f"{place}\nn = {counts[place]}" for place in places]]
    level = percent(run.study.evaluation.level)
    single_patient = max(counts.values(), default=0) < 2
    below = (
        "one patient: no interval"
        if single_patient
        else f"below each mean: {spread_words(rows['interval_kind'], level)}"
    )
    title = measure_title(measure)
    caption = f"{title} by strategy and {view.noun}: mean over test patients, n patients; {below}."
    return PageTable(f"strategies_{measure}", caption, titles, shown, rows, _class_note(run, rows))


@register_score_table("results")
def every_measure(view: StudyView, measure: str) -> PageTable:
    """Every row of the results under the default rule, to be sorted and searched."""
    run, results = view.run, view.analysis.results
    rows = results[results["selection"] == DEFAULT_RULE].copy()
    first = ~rows["domain"].isin([ALL_TARGETS, ALL_SOURCES])  # what a long page is cut to
    rows = rows.iloc[first.to_numpy().argsort(kind="stable")]
    rows["title"] = [run.label(name) for name in rows["strategy"]]
    rows["name"] = [measure_title(name) for name in rows["measure"]]
    rows["interval"] = [ends(row, 3) for row in rows.to_dict("records")]
    titles = {
        "title": "Strategy", "domain": view.noun.capitalize(), "class": "Class", "name": "Measure", "mean": "Mean",
        "interval": "Interval", "n_patients": "Patients", "n_seeds": "Seeds", "note": "Note",
    }  # fmt: skip
    digits = {"mean": 3, "n_patients": 0, "n_seeds": 0}
    short, meaning = footnoted(list(rows["note"]))
    shown = rows.assign(note=short)
    table = plain_table("results", f"Every measure, class and {view.noun}.", shown, titles, digits, meaning)
    return replace(table, frame=rows)


@register_score_table("differences")
def differences(view: StudyView, measure: str) -> PageTable | None:
    """Against the baseline, patient by patient: all targets first, then each domain, or rotation."""
    run, analysis, look = view.run, view.analysis, view.look
    rows = headline(analysis.differences, measure)
    rows = rows[rows["role"] == "target"]
    if rows.empty:
        return None
    order = {name: index for index, name in enumerate(look.order)}
    places = {name: index for index, name in enumerate(regions(headline(analysis.results, measure)))}
    rows = rows[rows["domain"].isin(places)].copy()
    rows["_place"] = rows["domain"].map(places)
    rows["_order"] = rows["strategy"].map(order)
    rows = rows.sort_values(["_place", "_order"], kind="stable").drop(columns=["_place", "_order"])
    notes, meaning = footnoted(list(rows["note"]))
    shown = [
        [
            strategy_cell(run, row["strategy"]),
            text(row["domain"]),
            Cell(signed(row["difference"]), ends(row), float(row["difference"]), True),
            Cell(p_value(row["p"]), sort=row["p"], number=True),
            Cell(
                p_value(row["p_holm"]) or ("ceiling" if row["family"] == "ceiling" else ""),
                sort=row["p_holm"],
                number=True,
            ),
            number(row["n_patients"], 0),
            text(note, True),
        ]
        for row, note in zip(rows.to_dict("records"), notes, strict=True)
    ]
    title = measure_title(measure)
    base = run.label(run.study.baseline)
    columns = ["Strategy", view.noun.capitalize(), f"{title} − baseline", "p", "p, Holm", "Patients", "Note"]
    note = (
        f"Below each difference: {spread_words(rows['interval_kind'], percent(run.study.evaluation.level))}. p: t test "
        "over patients and trainings; none with fewer than six patients or one training. Both strategies on the "
        "(patient, domain) cells that both have. Holm: adjusted within all strategies on "
        f"all targets together, and within all strategies × single {view.noun}s; "
        + ("those with a few target labels among themselves; " if look.few else "")
        + f"the ceiling is excluded from the ranking. {meaning}".rstrip()
    )
    return PageTable(
        f"differences_{measure}", f"{title}: difference from {base}, paired by patient.", columns, shown, rows, note
    )


@register_score_table("gaps")
def gaps(view: StudyView, measure: str) -> PageTable | None:
    """Share of the gap between baseline and ceiling that each strategy closed, by domain or rotation."""
    run, analysis, look = view.run, view.analysis, view.look
    rows = headline(analysis.gaps, measure)
    if rows.empty:
        return None
    places = [name for name in regions(headline(analysis.results, measure)) if name in set(rows["domain"])]
    cells = rows.set_index(["strategy", "domain"])
    shown = []
    for name in look.present(list(rows["strategy"])):
        line = [strategy_cell(run, name)]
        for place in places:
            row = cells.loc[(name, place)] if (name, place) in cells.index else None
            if row is None:
                line.append(Cell("", number=True))
            elif np.isfinite(row["gap_closed"]):
                interval = ends(row, 0, 100)
                line.append(Cell(f"{decimal(100 * row['gap_closed'], 0)} %", interval, float(row["gap_closed"]), True))
            else:
                line.append(Cell("–", row["note"], -np.inf, True))
        shown.append(line)
    caption = f"Share of the {measure_title(measure)} gap between the baseline and the ceiling that was closed."
    note = "– : not given, for the reason below it. Below each share its Fieller interval over patients and trainings."
    return PageTable(f"gap_closed_{measure}", caption, ["Strategy", *places], shown, rows, note)


@register_score_table("selection")
def selection(view: StudyView, measure: str) -> PageTable:
    """What each rule chose, and the score on all targets that follows; over several rotations the scores alone."""
    run, analysis, look, rotates = view.run, view.analysis, view.look, view.run.rotates
    results = analysis.results[(analysis.results["measure"] == measure) & (analysis.results["domain"] == ALL_TARGETS)]
    results = results[results["class"] == headline_class(results)].set_index(["strategy", "selection"])
    shown, frame = [], []
    rules = compared_rules(analysis.choices)
    for name in look.present(list(analysis.choices["strategy"])):
        line = [text(run.label(name))]
        row: dict[str, Any] = {"strategy": name}
        for rule in rules:
            chosen = analysis.choices[
                (analysis.choices["strategy"] == name) & (analysis.choices["selection"] == rule.name)
            ]
            mean = results["mean"].get((name, rule.name), np.nan)
            what = [f"trial {t}, {c}" for t, c in zip(chosen["trial"], chosen["checkpoint"], strict=True)]
            short = what[0] if len(set(what)) == 1 else f"{len(set(what))} choices" if what else ""
            line.append(Cell(decimal(mean) or "–", "" if rotates else short, float(mean), True))
            row[f"{rule.name}_mean"] = mean
            row |= {} if rotates else {f"{rule.name}_choice": "; ".join(dict.fromkeys(what))}
        shown.append(line)
        frame.append(row)
    columns = ["Strategy", *[rule.title[0].upper() + rule.title[1:] for rule in rules]]
    note = "The last column looks at the labels it is scored on: an upper bound on selection, never a result."
    if BeforeRefit in map(type, rules):
        note += (
            " The first column is of trainings made again from all source patients; the others are of first trainings."
        )
    caption = f"Selection rules: mean {measure_title(measure)} over the targets, and what was chosen."
    if rotates:
        caption = f"Selection rules: mean {measure_title(measure)} over all rotations of what each chose."
    return PageTable("selection", caption, columns, shown, pd.DataFrame(frame), note)


@register_table("settings", rotations="one")
def settings(run: LoadedRun) -> PageTable | None:
    """Every trial with its settings; the chosen ones marked."""
    if run.trials.empty:
        return None
    order = {strategy.name: index for index, strategy in enumerate(run.study.strategies)}
    rows = run.trials.assign(_order=run.trials["strategy"].map(order)).sort_values(["_order", "trial", "seed"])
    shown = []
    for row in rows.to_dict("records"):
        parameters = ", ".join(f"{key.split('.')[-1]} {_short(value)}" for key, value in _params(row["params"]).items())
        shown.append(
            [
                text(run.label(row["strategy"])),
                number(row["trial"], 0),
                number(row["seed"], 0),
                Cell(
                    "chosen" if row["chosen"] else "", sort=int(row["chosen"]), mark="chosen" if row["chosen"] else ""
                ),
                number(row["value"], 3),
                text(parameters or "defaults"),
                text(row["state"]),
                text(row["job"]),
            ]
        )
    columns = ["Strategy", "Trial", "Seed", "Chosen", "Source validation", "Settings", "State", "Job"]
    return PageTable(
        "trials", "Trials of the search and seeds of the chosen setting.", columns, shown, rows.drop(columns="_order")
    )


def score_cell(cells: pd.DataFrame, key: tuple[str, str]) -> Cell:
    if key not in cells.index:
        return Cell("–", "not evaluated", -1.0, True)
    row = cells.loc[key]
    if not np.isfinite(row["mean"]):
        return Cell("–", "no score", -1.0, True)
    return Cell(decimal(row["mean"]), ends(row), float(row["mean"]), True)


def _class_note(run: LoadedRun, rows: pd.DataFrame) -> str:
    classes: Sequence[str] = run.study.task.classes
    if len(classes) < 2:
        return ""
    return f"Mean of the classes {', '.join(classes)}; each class has its own rows in results.csv."


def strategy_cell(run: LoadedRun, name: str) -> Cell:
    """The title of a strategy, with what sets it apart from the contenders below it."""
    title = run.label(name)
    mark = "baseline" if name == run.study.baseline else "ceiling" if name == ceiling_of(run.study) else ""
    group = group_of(run.study, name)
    effect = run.effects.get(name)
    if effect is not None and not effect.effective:
        return Cell(title, "not effective here", title.lower(), mark=mark)
    if mark or group == "without":
        return Cell(title, sort=title.lower(), mark=mark)
    return Cell(title, few_labels(run.study, name) if group == "few" else "all target labels", title.lower())


def _params(value: Any) -> dict[str, Any]:
    try:
        result = json.loads(value) if value else {}
    except ValueError:
        return {"unreadable": value}
    return result if isinstance(result, dict) else {}


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
