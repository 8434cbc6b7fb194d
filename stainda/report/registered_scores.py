"""Figures of scores by strategy and domain."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stainda.evaluation.selection import DEFAULT_RULE
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report import cost_figures, costs, domain_figures, figures, off_scale, result_tables
from stainda.report.figure_registry import Plot, register
from stainda.report.study_view import (
    NotDrawable,
    StudyView,
    axis_limits,
    axis_title,
    measure_of,
    not_drawn,
    people,
    sample,
    set_apart,
)
from stainda.report.summary_text import count, measure_title
from stainda.report.tables import spread_words
from stainda.run_directory.result_tables import DOMAIN_GAP

NOT_GIVEN = (
    "not given: too few patients, or a gap within its own uncertainty or practically nothing (the table has the reason)"
)
MOST_PANELS = 24
MOST_MARKS = 500
"""Strategies × panels of a forest plot above which only the overall panels are drawn."""
MOST_LINES = 24
"""Strategies above which the forest plot shows only the best of them."""


def _on(view: StudyView) -> str:
    """Rotations are scored on their targets; single domains are shown with the sources."""
    return " on the targets" if view.by_rotation else ""


@register("forest", overall=True)
def forest(view: StudyView, measure: str, selection: str) -> Plot:
    rows = result_tables.shown_rows(view, measure, selection)
    places, noun = result_tables.regions(rows), view.noun
    names = view.few(list(rows["strategy"]), MOST_LINES, measure)
    shown = places[:MOST_PANELS]
    if len(names) * len(shown) > MOST_MARKS:
        shown = [name for name in places if name in (ALL_TARGETS, ALL_SOURCES)] or places[:2]
    title = measure_title(measure)
    left = [f"{len(places) - len(shown)} single {noun}s are in the heat map"] if len(shown) < len(places) else []
    rest = rows["strategy"].nunique() - len(names)
    left += [f"{rest} strategies with lower means are in the table"] if rest else []
    more = f" Not drawn: {'; '.join(left)}." if left else ""
    return Plot(
        figures.forest(
            rows[rows["strategy"].isin(names)], view.look, shown, axis_title(measure), axis_limits(measure, rows)
        ),
        rows,
        f"{title} of every strategy{_on(view)}, one panel per {noun}. {sample(rows, view.level, noun=noun)} Dashed: "
        f"the baseline.{set_apart(view, names)}{more}",
        f"Forest plot of {title} by strategy, a panel for each of {len(shown)} {noun}s; numbers in the table.",
    )


@register("heat_map", overall=True)
def heat_map(view: StudyView, measure: str, selection: str) -> Plot:
    rows = result_tables.shown_rows(view, measure, selection)
    places, noun = result_tables.regions(rows), view.noun
    n = rows.loc[~rows["domain"].isin([ALL_TARGETS, ALL_SOURCES]), "n_patients"].max()
    known = measure_of(measure)
    no_words = " More than 16 columns: colours alone, the numbers are in the CSV." if len(places) > 16 else ""
    scale = "The same colour scale from 0 to 1 everywhere." if known.high is not None else f"Unit: {known.unit}."
    title = measure_title(measure)
    return Plot(
        figures.heat_map(rows, view.look, places, axis_title(measure), axis_limits(measure, rows)),
        rows,
        f"Mean {title}{_on(view)} by strategy and {noun} (n ≤ {n} test patients per {noun}). {scale}{no_words}",
        f"Heat map of {title}, strategies by {noun}s; numbers in the table.",
    )


@register("source_target", rotations="one")
def source_target(view: StudyView, measure: str, selection: str) -> Plot:
    rows = view.rows(measure, selection)
    rows = rows[~rows["domain"].isin([ALL_TARGETS, ALL_SOURCES]) & np.isfinite(rows["mean"])]
    cells = rows.drop_duplicates("domain")
    if cells.duplicated(["stain", "centre"]).any():
        raise NotDrawable("several domains share a stain and a centre, so they are no matrix of the two")
    if len(cells) < 2:
        raise NotDrawable("there is a single domain, so nothing leads from one to another")
    wanted = dict.fromkeys([view.look.baseline, view.best(measure) or "", view.look.ceiling])
    names = [name for name in view.look.present(list(rows["strategy"])) if name in wanted]
    sources = ", ".join(view.run.study.protocol.teachers)
    return Plot(
        domain_figures.source_to_target(rows, names, view.look, axis_title(measure), axis_limits(measure, rows)),
        rows,
        f"Mean {measure_title(measure)} from the source ({sources}, framed) to every stain and centre: the baseline, "
        "the best mean without target labels, and the ceiling (n ≤ "
        f"{rows['n_patients'].max()} test patients per domain; intervals in the table).",
        f"Matrices of {measure_title(measure)} by stain and centre for {len(names)} strategies; numbers in the table.",
    )


@register("worst_domain")
def worst_domain(view: StudyView, measure: str, selection: str) -> Plot:
    rows = worst_rows(view, measure, selection)
    noun, others, many = ("target domain", "target domains", " domains")
    if view.by_rotation:
        noun, others, many = ("rotation and target domain", "pairs", "")
    shown = rows[rows["strategy"].isin(view.few(list(rows["strategy"]), MOST_LINES, measure))]
    title = measure_title(measure)
    low = "highest" if not measure_of(measure).higher_is_better else "lowest"
    counts = rows.loc[rows["worst"], "n_patients"]
    n = f"n\u00a0=\u00a0{counts.min()}" + (f" to {counts.max()}" if counts.max() > counts.min() else "")
    lines = spread_words(shown["interval_kind"], view.level)
    return Plot(
        domain_figures.worst_domain(shown, view.look, axis_title(measure), axis_limits(measure, rows)),
        rows,
        f"The {noun} with the {low} mean {title} of each strategy, named ({n} test patients there; lines: {lines}); "
        f"ticks: the other {others}. The worst of several{many} is worse by chance too: its interval does not allow "
        "for having been picked." + set_apart(view, shown["strategy"]) + not_drawn(rows["strategy"], shown["strategy"]),
        f"Worst {'pair of sources and target' if view.by_rotation else noun} of each strategy in {title}; numbers in "
        "the CSV.",
    )


def worst_rows(view: StudyView, measure: str, selection: str) -> pd.DataFrame:
    """Single target domains of each strategy, or pairs of a rotation and a target domain, the worst marked."""
    if view.by_rotation:
        if selection != DEFAULT_RULE:
            raise NotDrawable("pairs of sources and targets are scored under source_validation alone")
        rows, what = _target_pairs(view, measure), "pairs of sources and target"
    else:
        rows, what = view.rows(measure, selection), "target domains"
        rows = rows[(rows["role"] == "target") & (rows["domain"] != ALL_TARGETS) & np.isfinite(rows["mean"])].copy()
    if rows["domain"].nunique() < 2:
        raise NotDrawable(f"there are fewer than two {what}, so none is the worst")
    groups = rows.groupby("strategy")["mean"]
    rows["worst"] = False
    rows.loc[groups.idxmin() if measure_of(measure).higher_is_better else groups.idxmax(), "worst"] = True
    return rows


def _target_pairs(view: StudyView, measure: str) -> pd.DataFrame:
    """Pairs of a rotation and a target domain; ``domain`` names the pair, ``target`` the domain."""
    rows = view.pairs(measure)
    rows = rows[rows["role"] == "target"].reset_index(drop=True)
    labels = {group.name: group.label for group in view.analysis.groups}
    rows["target"] = rows["domain"]
    rows["domain"] = [pair_words(labels[row.rotation], row.domain) for row in rows.itertuples()]
    return rows


def pair_words(label: str, domain: str) -> str:
    """``SR@B from PAS@A``, ``SR@B, without B``."""
    return f"{domain} {label}" if label.startswith("from ") else f"{domain}, {label}"


@register("differences", overall=True)
def differences(view: StudyView, measure: str, selection: str) -> Plot:
    rows = view.rows(measure, selection, "differences")
    rows = rows[(rows["domain"] == ALL_TARGETS) & np.isfinite(rows["difference"])]
    if rows.empty:
        raise NotDrawable("no strategy has a score on the targets other than the baseline")
    names = view.few(list(rows["strategy"]), MOST_LINES, measure)
    patients = view.rows(measure, selection, "patients")
    patients = patients[patients["domain"] == ALL_TARGETS]
    base, title = view.run.label(view.look.baseline), measure_title(measure)
    shown = rows[rows["strategy"].isin(names)]
    return Plot(
        figures.paired_differences(shown, patients, view.look, f"difference in {axis_title(measure)} from {base}"),
        patients,
        f"Difference in {title} from {base} over all targets. Small circles: single patients. "
        + sample(view.rows(measure, selection), view.level, True)
        + set_apart(view, names)
        + not_drawn(rows["strategy"], names),
        f"Paired differences of each strategy against the baseline in {title}; numbers in the table.",
    )


@register("gap_closed", overall=True)
def gap_closed(view: StudyView, measure: str, selection: str) -> Plot:
    rows = view.rows(measure, selection, "gaps")
    if not rows["gap_closed"].notna().any():
        raise NotDrawable(f"no gap between baseline and ceiling could be shown in any {view.noun}")
    scores = result_tables.shown_rows(view, measure, selection)
    given = set(rows.loc[rows["gap_closed"].notna(), "domain"])
    without = set(rows["domain"]) - given - {ALL_TARGETS}
    known = [name for name in result_tables.regions(scores) if name in given]
    places = known[:MOST_PANELS]
    names = view.few(list(rows["strategy"]), MOST_LINES, measure)
    if len(names) * len(places) > MOST_MARKS:
        places = [ALL_TARGETS]
    title = measure_title(measure)
    shown = rows[rows["strategy"].isin(names) & rows["domain"].isin(places)]
    beyond = off_scale.count_beyond(shown, figures.gap_limits(shown), ("gap_closed", "low", "high"))
    return Plot(
        figures.gap_closed(shown, view.look, places),
        rows,
        f"Share of the {title} gap between baseline and ceiling that each strategy closed; {NOT_GIVEN}. "
        + (f"No share is given for {count(len(without), view.noun)}, left out here. " if without else "")
        + sample(shown, view.level, noun=view.noun)
        + off_scale.words(beyond)
        + set_apart(view, names)
        + not_drawn(rows["strategy"], names)
        + not_drawn(known, places, view.noun),
        f"Gap closed in {title} by strategy, one panel per {view.noun}; numbers in the table.",
    )


@register("domain_gap", of_selection=False, rotations="one")
def domain_gap(view: StudyView, measure: str, selection: str) -> Plot:
    gap = view.run.domain_gap
    if gap.empty:
        raise NotDrawable(view.run.missing.get(DOMAIN_GAP.path, "domain_gap.csv has no rows"))
    rows = view.rows(measure)
    base = rows[rows["strategy"] == view.look.baseline].set_index("domain")["mean"]
    sign = 1 if measure_of(measure).higher_is_better else -1
    table = gap.assign(loss=sign * (gap["source"].map(base) - gap["target"].map(base)))
    for name in domain_figures.DISTANCES:
        table[name] = pd.to_numeric(table[name], errors="coerce")
    table = table[table["loss"].notna()]
    if not any(table[name].notna().sum() >= 2 for name in domain_figures.DISTANCES):
        raise NotDrawable("fewer than two target domains have both a distance and a score of the baseline")
    base_title, title = view.run.label(view.look.baseline), measure_title(measure)
    return Plot(
        domain_figures.gap_against_loss(table, f"loss of {title}, source − target"),
        table,
        f"How far the targets are from the source, and how much {title} {base_title} loses on them (n\u00a0=\u00a0"
        f"{len(table)} pairs of domains, no intervals). Distances are of patches that training could see, without "
        "labels; CKA is 1 where features are alike. So few points show a direction at most, not a law.",
        f"Scatter plots of distances between domains against the loss of {title}; numbers in the CSV.",
    )


@register("slopes", overall=True)
def slopes(view: StudyView, measure: str, selection: str) -> Plot:
    from stainda.report import statistic_figures

    scores = view.by_patient(measure, selection)
    if view.look.baseline not in scores:
        raise NotDrawable("the baseline has no scores on the targets")
    names = [name for name in view.few(list(scores.columns), 13, measure) if name != view.look.baseline]
    if not names:
        raise NotDrawable("there is no strategy other than the baseline")
    better = measure_of(measure).higher_is_better
    rest = scores.shape[1] - 1 - len(names)
    more = f" In the CSV alone: {count(rest, 'strategy')}." if rest else ""
    return Plot(
        statistic_figures.paired_slopes(scores, names, view.look, axis_title(measure), better),
        scores.reset_index(),
        f"{measure_title(measure)} of each patient over all targets with {view.run.label(view.look.baseline)} (left) "
        f"and with the strategy (right); {people(len(scores))}. Blue, solid: better; orange-red, dashed: not better; "
        f"thick: the means; below: how many of the patients are better.{more}",
        f"Paired slopes of {measure_title(measure)} per patient, a panel for each of {len(names)} strategies.",
    )


@register("cost", of_selection=False, overall=True)
def cost(view: StudyView, measure: str, selection: str) -> Plot:
    frame = costs.cost_frame(view.run, view.look)
    rows = view.overall(measure).reset_index()[["strategy", "mean", "low", "high"]]
    minutes = {f"{kind}_minutes": frame[f"{kind}_seconds_per_job"] / 60 for kind in ("cpu", "gpu")}
    joined = frame.assign(**minutes).merge(rows, on="strategy")
    if len(joined) < 2:
        raise NotDrawable("the time of fewer than two strategies is known")
    shown = joined[joined["strategy"].isin(view.few(list(joined["strategy"]), 16, measure))]
    untimed = len(set(rows["strategy"]) - set(joined["strategy"]))
    drawn, title = costs.drawn_quantities(shown), measure_title(measure)
    return Plot(
        cost_figures.cost_against_score(
            shown, drawn, view.look, f"{axis_title(measure)}, all targets", axis_limits(measure, rows)
        ),
        joined,
        f"What one training took (median over its trainings) against {title} over all targets; a strategy has the same "
        "height in every panel. "
        + sample(view.rows(measure), view.level, True)
        + set_apart(view, shown["strategy"])
        + not_drawn(joined["strategy"], shown["strategy"])
        + (f" Without a recorded time: {count(untimed, 'strategy')}." if untimed else ""),
        f"Scatter plots of score against {', '.join(drawn.values())}, one point per strategy; numbers in the tables.",
    )
