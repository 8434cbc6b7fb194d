"""Figures of ranks, sizes of effects, variance and the mixed model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stainda.report import statistic_figures
from stainda.report.kinds import Plot, register
from stainda.report.study_view import NotDrawable, View, axis_title, measure_of, not_drawn, people
from stainda.report.tables import p_value
from stainda.report.words import count, measure_title

MOST_LINES = 24


@register("critical_difference", "Critical-difference diagram: mean ranks over patients", of_selection=False)
def critical_difference(view: View, measure: str, selection: str) -> Plot:
    found = view.insights(measure)
    ranking = found.ranking
    if not np.isfinite(ranking.ranks).all() or len(found.strategies) < 2:
        raise NotDrawable(ranking.note or "nothing to rank")
    n = ranking.n
    frame = pd.DataFrame(
        {"strategy": found.strategies, "mean_rank": ranking.ranks, "critical_difference": ranking.critical_difference,
         "friedman_p": ranking.p, "n_patients": n}
    )  # fmt: skip
    note = f" {ranking.note[0].upper()}{ranking.note[1:]}." if ranking.note else ""
    shown = p_value(ranking.p)
    return Plot(
        statistic_figures.critical_difference(ranking, found.strategies, view.look),
        frame,
        f"Mean rank of the strategies over patients by {measure_title(measure)} on all targets (1 is best; those "
        f"with target labels are not ranked), {people(n)} with a score of every strategy. Friedman p "
        f"{'' if shown.startswith('<') else '= '}{shown}. Grey bars join strategies whose ranks were not shown to "
        f"differ (Nemenyi, {view.level}).{note}",
        f"Critical-difference diagram of {len(found.strategies)} strategies; numbers in the CSV.",
    )


@register("effects", "Sizes of effects, and probability of being better, equal or worse", of_selection=False)
def effects(view: View, measure: str, selection: str) -> Plot:
    table = view.insights(measure).effects
    if table.empty or not table["n_patients"].gt(1).any():
        raise NotDrawable("differences of fewer than two patients have no size")
    shown = table[table["strategy"].isin(view.few(list(table["strategy"]), MOST_LINES, measure))]
    unit = measure_of(measure).unit
    rope = f"{view.run.study.evaluation.rope:g}" + (f" {unit}" if unit else "")
    counts = table["n_patients"]
    n = f"n\u00a0=\u00a0{counts.min()}" + (f" to {counts.max()}" if counts.max() > counts.min() else "")
    return Plot(
        statistic_figures.effects(shown, view.look),
        table,
        f"Against {view.run.label(view.look.baseline)} by {measure_title(measure)} on all targets, {n} test patients. "
        "Left: mean over standard deviation of the paired differences, corrected for small samples (Hedges' g; no "
        "interval). Right: posterior probability (Bayesian signed-rank test) that the strategy is worse, practically "
        f"equal (difference within ±{rope}), or better." + not_drawn(table["strategy"], shown["strategy"]),
        "Sizes of effects and posterior probabilities by strategy; numbers in the table.",
    )


@register("variance", "Where scores vary: patients, domains, trainings", of_selection=False)
def variance(view: View, measure: str, selection: str) -> Plot:
    table = view.insights(measure).variance
    if table.empty or not table["variance"].notna().any():
        raise NotDrawable("the variance of scores cannot be split with so few patients, domains and seeds")
    shown = table[table["strategy"].isin(view.few(list(table["strategy"]), MOST_LINES, measure))]
    cannot = sorted({f"{row.component} ({row.note})" for row in table.itertuples() if row.note})
    more = f" Not told apart: {'; '.join(cannot)}." if cannot else ""
    return Plot(
        statistic_figures.variance_bars(shown, view.look),
        table,
        f"Variance of {measure_title(measure)} between patients, target domains, and trainings with another seed, as "
        "shares; rest: what these do not explain, mostly their interactions. SD: square root of the whole. "
        f"n\u00a0=\u00a0{int(table['n'].max())} scores per strategy at most; no intervals.{more}"
        + not_drawn(table["strategy"], shown["strategy"]),
        "Stacked bars of variance components by strategy; numbers in the CSV.",
    )


@register("mixed_model", "Mixed model: strategy, stain and centre, patients random", of_selection=False)
def mixed_model(view: View, measure: str, selection: str) -> Plot:
    table = view.insights(measure).mixed
    if not table["low"].notna().any():
        note = "; ".join(filter(None, table["note"]))
        raise NotDrawable(f"there is no mixed model: {note or 'no term has an interval'}")
    rows = table
    names = [term.removeprefix("strategy: ") for term in table["term"] if str(term).startswith("strategy: ")]
    if len(names) > MOST_LINES:
        few = view.few(names, MOST_LINES, measure)
        rows = table[[not str(t).startswith("strategy: ") or str(t)[10:] in few for t in table["term"]]]
    drawn = rows[np.isfinite(rows["low"]) & (rows["term"] != "intercept")]
    rest = len(table[table["term"] != "intercept"]) - len(drawn)
    return Plot(
        statistic_figures.mixed_terms(rows, view.look, f"change in {axis_title(measure)}"),
        table,
        f"Linear mixed model of {measure_title(measure)}: strategy (against {view.run.label(view.look.baseline)}), "
        "stain and centre (against the first of each), patients as random intercepts; estimates with 95\u00a0% Wald "
        f"intervals, n\u00a0=\u00a0{int(table['n'].max())} scores of patients in target domains. Triangles: stain and "
        "centre." + (f" Not drawn, in the CSV alone: {count(rest, 'term')}." if rest else ""),
        "Estimates of the mixed model with intervals; numbers in the table.",
    )
