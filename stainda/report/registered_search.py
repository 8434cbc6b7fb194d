"""Figures of training and search."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stainda.evaluation.selection import DEFAULT_RULE, RULES, BeforeRefit
from stainda.evaluation.summary import ALL_TARGETS
from stainda.report import figures, search_figures
from stainda.report.figure_registry import Plot, register
from stainda.report.search_tables import FEWEST_FOR_IMPORTANCE, importance_table, searched, trial_table
from stainda.report.study_view import NotDrawable, StudyView, measure_of
from stainda.report.summary_text import count, headline_class, measure_title
from stainda.run_directory.training_tables import TRIALS

MOST_PANELS, MOST_ROWS, MOST_SETTINGS, MOST_AXES = 16, 6, 4, 6


@register("learning_curves", of_measure=False, of_selection=False, rotations="one")
def learning_curves(view: StudyView, measure: str, selection: str) -> Plot:
    curves: dict[str, list[pd.DataFrame]] = {}
    frames = []
    run = view.run
    for row in run.trials[run.trials["chosen"]].to_dict("records") if len(run.trials) else []:
        job = run.jobs.get(str(row["job"]))
        if job is None or job.curve is None or not {"epoch", "val_dice"} <= set(job.curve.columns):
            continue
        curves.setdefault(str(row["strategy"]), []).append(job.curve)
        frames.append(job.curve.assign(strategy=row["strategy"], seed=row["seed"], job=job.name))
    if not curves:
        raise NotDrawable("no job of a chosen setting left a learning curve (jobs/<hash>/training.csv)")
    few = view.few(list(curves), MOST_PANELS)
    n = sum(len(curves[name]) for name in few)
    return Plot(
        figures.learning_curves({name: curves[name] for name in few}, view.look),
        pd.concat(frames, ignore_index=True),
        "Dice on the source-validation patients after each epoch, one line per training of the chosen setting; "
        f"the mark is the checkpoint that was kept. n = {n} trainings." + _rest(len(curves) - len(few)),
        "Learning curves, one panel per strategy.",
    )


@register("regret", of_selection=False, overall=True)
def regret(view: StudyView, measure: str, selection: str) -> Plot:
    table = regret_table(view, measure)
    titles = {rule.name: rule.title for rule in RULES if not rule.uses_target_labels}
    n = table["strategy"].nunique()
    return Plot(
        search_figures.regret(table, titles, f"{measure_title(measure)} lost against selection on the test labels"),
        table,
        f"What each selection rule loses on all targets against choosing the trial and checkpoint on the test labels "
        f"of each domain; circles: n\u00a0=\u00a0{n} strategies, diamonds: their mean (no interval: strategies are no "
        f"sample). All but that bound were made without target labels; {dict(titles)[DEFAULT_RULE]!r} is the default.",
        "Regret of the selection rules, a dot per strategy; numbers in the CSV.",
    )


def regret_table(view: StudyView, measure: str) -> pd.DataFrame:
    """Oracle score minus the score of each rule, by strategy, over all targets."""
    rows = view.analysis.results
    rows = rows[(rows["measure"] == measure) & (rows["domain"] == ALL_TARGETS) & np.isfinite(rows["mean"])]
    rows = rows[rows["class"] == headline_class(rows)] if len(rows) else rows
    oracle = rows[rows["selection"] == "oracle_selection"].set_index("strategy")["mean"]
    if oracle.empty:
        raise NotDrawable(f"selection rules are not compared by {measure!r} in this study")
    if view.analysis.choices["n_candidates"].max() < 2:
        raise NotDrawable("there is one candidate per strategy, so there was nothing to select")
    first = rows["selection"].eq(BeforeRefit.name).any()  # trainings from fewer patients are compared with their like
    rows = rows[rows["selection"] != DEFAULT_RULE] if first else rows
    table = rows[rows["selection"] != "oracle_selection"][["strategy", "selection", "mean"]].copy()
    sign = 1 if measure_of(measure).higher_is_better else -1
    table["oracle"] = table["strategy"].map(oracle)
    table["regret"] = sign * (table["oracle"] - table["mean"])
    return table[np.isfinite(table["regret"])].reset_index(drop=True)


@register("history", of_measure=False, of_selection=False, rotations="one")
def history(view: StudyView, measure: str, selection: str) -> Plot:
    table, _ = _trials(view, 2)
    few = view.few(list(table["strategy"]), MOST_PANELS)
    return Plot(
        search_figures.history(table[table["strategy"].isin(few)], view.look),
        table,
        "Score of each trial on source validation (circles) and the best so far (line); filled: the chosen setting; "
        f"crosses: failed. n\u00a0=\u00a0{len(table)} trials; trial 0 is the default setting."
        + _thinned(search_figures.thinned(table), table)
        + _rest(table["strategy"].nunique() - len(few)),
        "Search history, one panel per strategy.",
    )


@register("importance", of_measure=False, of_selection=False, rotations="one")
def importance(view: StudyView, measure: str, selection: str) -> Plot:
    table, columns = _trials(view, FEWEST_FOR_IMPORTANCE)
    result = importance_table(table, columns, view.run.study.seed)
    if result.empty:
        raise NotDrawable(
            f"importance needs at least {FEWEST_FOR_IMPORTANCE} finished trials of a strategy; there are "
            f"{table[table['value'].notna()].groupby('strategy').size().max()} at most"
        )
    few = view.few(list(result["strategy"]), MOST_PANELS)
    trials = result.drop_duplicates("strategy")["n_trials"]
    return Plot(
        search_figures.importance(result[result["strategy"].isin(few)], view.look),
        result,
        "Importance of settings for the score on source validation: permutation importance in a random forest fitted "
        "to "
        f"the trials (n\u00a0=\u00a0{trials.min()} to {trials.max()} per strategy), as shares. Few trials make it "
        "rough."
        + _rest(result["strategy"].nunique() - len(few)),
        "Importance of settings, one panel per strategy; numbers in the CSV.",
    )  # fmt: skip


@register("slices", of_measure=False, of_selection=False, rotations="one")
def slices(view: StudyView, measure: str, selection: str) -> Plot:
    table, columns = _trials(view, 3)
    names = searched(table, columns)
    table = table[table[names].notna().any(axis=1)]
    common = table[names].notna().sum().sort_values(ascending=False, kind="stable")
    shown = list(common.index[:MOST_SETTINGS])
    few = view.few(list(table["strategy"]), MOST_ROWS)
    some = search_figures.thinned(table)
    return Plot(
        search_figures.slices(some[some["strategy"].isin(few)], shown, view.look),
        table,
        f"Score on source validation against the settings that were searched (n\u00a0=\u00a0{len(table)} trials); "
        "filled: chosen." + _thinned(some, table) + _rest(table["strategy"].nunique() - len(few)) + (
            f" {len(names) - len(shown)} further settings are in the CSV." if len(names) > len(shown) else ""
        ),
        "Scatter plots of score against settings, a row per strategy.",
    )  # fmt: skip


@register("parallel", of_measure=False, of_selection=False, rotations="one")
def parallel(view: StudyView, measure: str, selection: str) -> Plot:
    table, columns = _trials(view, 3)
    done = table[table["value"].notna()]
    groups = {str(name): rows for name, rows in done.groupby("strategy", sort=False)}
    settings = {name: searched(rows, columns)[:MOST_AXES] for name, rows in groups.items()}
    groups = {name: rows for name, rows in groups.items() if settings[name] and len(rows) > 2}
    if not groups:
        raise NotDrawable("no strategy has three finished trials with settings that differ")
    richest = sorted(groups, key=lambda name: -len(settings[name]))[:4]
    few = view.look.present(richest)
    cut = sum(max(0, len(searched(groups[name], columns)) - MOST_AXES) for name in few)
    hidden = f" {count(cut, 'further setting').capitalize()} of these strategies: in the CSV alone." if cut else ""
    drawn = {name: search_figures.thinned(groups[name]) for name in few}
    shown, every = (pd.concat([part[name] for name in few]) for part in (drawn, groups))
    return Plot(
        search_figures.parallel_coordinates(drawn, settings, view.look),
        table,
        "Each line is a trial, from its settings to its score on source validation; the lighter, the higher "
        f"(n\u00a0=\u00a0{sum(len(groups[name]) for name in few)} trials)."
        + _thinned(shown, every)
        + _rest(len(groups) - len(few))
        + hidden,
        "Parallel coordinates of the trials, a panel per strategy; numbers in the CSV.",
    )


def _thinned(shown: pd.DataFrame, every: pd.DataFrame) -> str:
    """That of many trials some are drawn; nothing where all are."""
    if len(shown) == len(every):
        return ""
    return f" Drawn are {len(shown)} of them, evenly spaced, with the chosen and the best; the CSV has all."


def _trials(view: StudyView, least: int) -> tuple[pd.DataFrame, list[str]]:
    table, columns = trial_table(view.run)
    if table.empty:
        raise NotDrawable(view.run.missing.get(TRIALS.path, "trials.csv has no rows"))
    done = table[table["value"].notna()].groupby("strategy").size()
    if done.empty or done.max() < least or not searched(table, columns):
        most = int(done.max()) if len(done) else 0
        raise NotDrawable(f"no strategy has {least} finished trials with settings that differ (at most {most} trials)")
    return table, columns


def _rest(n: int) -> str:
    return f" In the CSV alone: {count(n, 'strategy')}." if n > 0 else ""
