"""Figures of ranks, sizes of effects and variance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stainda.report import statistic_figures
from stainda.report.figure_registry import Plot, register
from stainda.report.study_view import NotDrawable, StudyView, measure_of, not_drawn, people
from stainda.report.summary_text import measure_title

MOST_LINES = 24


@register("critical_difference", of_selection=False, overall=True)
def critical_difference(view: StudyView, measure: str, selection: str) -> Plot:
    insights = view.insights(measure)
    ranking = insights.ranking
    if not np.isfinite(ranking.ranks).all() or len(insights.strategies) < 2:
        raise NotDrawable(ranking.note or "nothing to rank")
    n = ranking.n
    frame = pd.DataFrame({"strategy": insights.strategies, "mean_rank": ranking.ranks, "n_patients": n})
    for name, column in zip(insights.strategies, ranking.pairwise.T, strict=True):
        frame[f"p_holm_{name}"] = column
    note = f" {ranking.note[0].upper()}{ranking.note[1:]}." if ranking.note else ""
    bars = (
        f" Grey bars join strategies of which no pair was shown to differ (t tests over patients and trainings, Holm "
        f"over all pairs, {view.level})."
        if ranking.tested
        else ""
    )
    return Plot(
        statistic_figures.critical_difference(ranking, insights.strategies, view.look),
        frame,
        f"Mean rank of the strategies over patients by {measure_title(measure)} on all targets (1 is best; those "
        f"with target labels are not ranked), {people(n)} with a score of every strategy.{bars}{note}",
        f"Mean ranks of {len(insights.strategies)} strategies; numbers in the CSV.",
    )


@register("effects", of_selection=False, overall=True)
def effects(view: StudyView, measure: str, selection: str) -> Plot:
    table = view.insights(measure).effects
    if table.empty or not table["n_patients"].gt(1).any():
        raise NotDrawable("differences of fewer than two patients have no size")
    shown = table[table["strategy"].isin(view.few(list(table["strategy"]), MOST_LINES, measure))]
    unit = measure_of(measure).unit
    rope = f"{view.run.study.evaluation.rope:g}" + (f" {unit}" if unit else "")
    counts = table["n_patients"]
    n = f"n\u00a0=\u00a0{counts.min()}" + (f" to {counts.max()}" if counts.max() > counts.min() else "")
    sizes = (
        "mean over standard deviation of the paired differences, corrected for small samples (Hedges' g; no interval)."
    )
    if statistic_figures.has_posterior(shown):
        sizes = (
            f"Left: {sizes} Right: posterior probability (Bayesian t test over patients and trainings) that the "
            f"strategy is worse, practically equal (difference within ±{rope}), or better."
        )
    else:
        sizes = (
            f"{sizes[0].upper()}{sizes[1:]} Probabilities of being better are not given: see the notes of the table."
        )
    return Plot(
        statistic_figures.effects(shown, view.look),
        table,
        f"Against {view.run.label(view.look.baseline)} by {measure_title(measure)} on all targets, {n} test patients. "
        f"{sizes}{not_drawn(table['strategy'], shown['strategy'])}",
        "Sizes of effects and, where they are given, posterior probabilities by strategy; numbers in the table.",
    )


@register("variance", of_selection=False)
def variance(view: StudyView, measure: str, selection: str) -> Plot:
    table = view.insights(measure).variance
    if table.empty or not table["variance"].notna().any():
        raise NotDrawable("the variance of scores cannot be split with so few patients, domains and seeds")
    shown = table[table["strategy"].isin(view.few(list(table["strategy"]), MOST_LINES, measure))]
    noun, nouns = "domain", "target domains"
    if view.by_rotation:
        noun, nouns = "pair of sources and target", "pairs of sources and target"
    unknown = table.loc[table["note"].astype(bool), ["component", "note"]].replace({"component": {"domain": noun}})
    cannot = sorted({f"{row.component} ({row.note})" for row in unknown.itertuples()})
    more = f" Not distinguished: {'; '.join(cannot)}." if cannot else ""
    return Plot(
        statistic_figures.variance_bars(shown, view.look),
        table,
        f"Variance of {measure_title(measure)} between patients, {nouns}, and trainings with another seed, as "
        "shares; rest: what these do not explain, mostly their interactions. SD: square root of the whole. "
        f"n\u00a0=\u00a0{int(table['n'].max())} scores per strategy at most; no intervals.{more}"
        + not_drawn(table["strategy"], shown["strategy"]),
        "Stacked bars of variance components by strategy; numbers in the CSV.",
    )
