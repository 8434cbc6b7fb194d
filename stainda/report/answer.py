"""The answer in sentences, generated from the statistics and never beyond them.

A sentence that claims a difference needs a test that shows it (Holm-adjusted p below 1 - level). Where nothing was
shown the sentence says so, and with how many patients; where nothing could have been shown, it says that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stainda.arrays import Array
from stainda.evaluation.analysis import Analysis
from stainda.evaluation.groups import FEW_FAMILY, ceiling_of, contenders, few_labels
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report import answer_of_rotations as of_rotations
from stainda.report.cautions import cautions
from stainda.report.exclusions import excluded_strategies
from stainda.report.run import LoadedRun
from stainda.report.study_view import StudyView
from stainda.report.summary_text import (
    Sentence,
    answer_measure,
    count,
    headline,
    listed,
    measure_title,
    overall_differences,
    score_words,
    shown_to_be_better,
    spread_of,
    untested,
)
from stainda.report.tables import decimal, p_value, signed
from stainda.run_directory.result_tables import RECORDS

MOST_NAMED = 8
PARTS_IN_WORDS = {
    "view": "another colour view", "augment": "augmentation", "labels": "other labels",
    "norm": "batch statistics {name}", "after": "adaptation after training",
}  # fmt: skip
"""What a strategy may do besides aligning, by the part of its configuration."""
MOST_FEW = 3
"""Strategies with a few target labels that have a sentence each."""


def no_answer(run: LoadedRun) -> list[Sentence]:
    """What is said where no test patient was scored yet."""
    reason = run.missing.get(RECORDS.path, "there are no records of test patients")
    failed = [job for job in run.jobs.values() if job.error]
    more = f" {len(failed)} jobs failed; see the list of failures." if failed else ""
    return [Sentence(f"There is no answer yet: {reason}.{more}", "none"), *of_rotations.not_in_the_answer(run)]


def answer(view: StudyView) -> list[Sentence]:
    """What the study says, most important first."""
    run, analysis, study = view.run, view.analysis, view.run.study
    results = headline(analysis.results, answer_measure(study))
    targets = results[results["domain"] == ALL_TARGETS].set_index("strategy")
    defined = targets[np.isfinite(targets["mean"])]
    if defined.empty and study.protocol.scheme == "pooled":
        return _without_targets(run, results)
    if defined.empty:
        text = "No strategy has a score on a target domain, so the question cannot be answered yet."
        return [Sentence(text, "none"), *of_rotations.not_in_the_answer(run)]
    without = defined.loc[contenders(study, defined.index)]
    n = int(defined["n_patients"].max())
    sentences: list[Sentence] = []
    if n == 1:
        text = "This is one test patient, not a cohort: there is no interval and no test, and nothing below can be "
        text += "generalised to other patients. It shows what happened on these sections."
        sentences.append(Sentence(text, "limit"))
    if study.baseline not in defined.index:
        text = f"The baseline {run.label(study.baseline)!r} has no score, so nothing is compared with it."
        sentences.append(Sentence(text, "caution"))
    else:
        sentences += _best_against_baseline(run, analysis, without, n)
        sentences += of_rotations.how_patients_count(view, n)
        sentences += _loss_of_the_baseline(view, results)
        sentences += of_rotations.in_single_rotations(view)
        sentences += _with_few_labels(run, analysis, defined, n)
        sentences += _gap(run, analysis)
    sentences += _worst_domain(view, without)
    sentences += of_rotations.not_in_the_answer(run)
    sentences += of_rotations.compared_on_some(view)
    sentences += cautions(run, defined, n)
    return [*sentences, *of_rotations.not_independent(run)]


def _without_targets(run: LoadedRun, results: pd.DataFrame) -> list[Sentence]:
    """Scheme ``pooled``: every domain teaches, so there is no gap between source and targets to speak of."""
    rows = results[(results["domain"] == ALL_SOURCES) & np.isfinite(results["mean"])].set_index("strategy")
    if rows.empty:
        return [Sentence("No strategy has a score yet, so the question cannot be answered.", "none")]
    level = run.study.evaluation.level
    scores = [f"{run.label(name)} {score_words(row, level)}" for name, row in rows.iterrows()]
    n = count(int(rows["n_patients"].max()), "patient")
    return [
        Sentence(
            "Every domain taught and was tested in other patients: there is no target, and nothing is compared across "
            f"domains. Mean {measure_title(answer_measure(run.study))} over all domains, {n}: {listed(scores)}."
        )
    ]


def _loss_of_the_baseline(view: StudyView, results: pd.DataFrame) -> list[Sentence]:
    run, level = view.run, view.run.study.evaluation.level
    title = measure_title(answer_measure(run.study))
    base = results[results["strategy"] == run.study.baseline].set_index("domain")
    if run.rotates:
        return of_rotations.baseline(view, base)
    if ALL_SOURCES not in base.index or not np.isfinite(base.loc[ALL_SOURCES, "mean"]):
        where, on_sources = "", None
    else:
        on_sources = base.loc[ALL_SOURCES]
        where = f"{title} {score_words(on_sources, level)} on its own domain and "
    on_targets = base.loc[ALL_TARGETS]
    text = (
        f"{run.label(run.study.baseline)}, trained on {listed(run.study.protocol.teachers)}, reaches {where}"
        f"{'' if where else f'{title} '}{score_words(on_targets, level)} on average over the targets."
    )
    singles = base[(base["role"] == "target") & (base.index != ALL_TARGETS) & np.isfinite(base["mean"])]
    if len(singles) > 1 and on_sources is not None:
        worst = singles["mean"].idxmin()
        text += f" It is lowest on {worst} ({decimal(singles.loc[worst, 'mean'])})."
    return [Sentence(text)]


def _best_against_baseline(run: LoadedRun, analysis: Analysis, without: pd.DataFrame, n: int) -> list[Sentence]:
    study, alpha = run.study, 1 - run.study.evaluation.level
    measure = answer_measure(study)
    rows, title = overall_differences(analysis, measure), measure_title(measure)
    if rows.empty:
        elsewhere = [run.label(candidate) for candidate in excluded_strategies(run)]
        if elsewhere:
            return [
                Sentence(
                    f"No other strategy was evaluated as this study asks, so there is nothing to compare. Trained here "
                    f"otherwise, and not comparable: {listed(elsewhere)}.",
                    "none",
                )
            ]
        return [Sentence("No other strategy was evaluated, so there is nothing to compare.", "none")]
    best = rows["difference"].idxmax()
    top = rows.loc[best]
    name, base = run.label(best), run.label(study.baseline)
    leader = shown_to_be_better(rows, alpha)
    named = [str(best)] + ([leader] if leader is not None else [])
    means = {strategy: analysis.on_common_cells((strategy, study.baseline), measure) for strategy in named}
    led = "scored highest" if without["mean"].idxmax() == best else f"has the largest gain over {base}"

    def paired(strategy: str) -> str:
        """The difference with its uncertainty, and the test."""
        row = rows.loc[strategy]
        parts = [spread_of(row, study.evaluation.level), _p(row["p_holm"], int(rows["p_holm"].notna().sum()))]
        spread = "; ".join(filter(None, parts))
        return f"{signed(row['difference'])} against {base}{f' ({spread})' * bool(spread)}"

    def higher(strategy: str) -> str:
        return _how_many_higher(*means[strategy])

    def scores(strategy: str) -> str:
        """The means of both, on what both have."""
        mine, before = (decimal(float(part.mean())) for part in means[strategy])
        return f"{mine} against {before} for the baseline"

    if top["difference"] <= 0:
        others = count(len(rows), "other strategy")
        out = [Sentence(f"Of {others} none scored higher than {base} on the targets.", "none")]
    elif n == 1:
        out = [Sentence(f"{name} {led} of those without target labels ({title} {scores(best)}), on this patient.")]
    elif leader is not None:
        patients = count(int(rows.loc[leader, "n_patients"]), "patient")
        out = [
            Sentence(
                f"{run.label(leader)} is shown to be better than {base} on the targets: {title} {scores(leader)}, in "
                f"{patients}{_idle_words(run, leader)}."
            ),
            Sentence(
                f"Paired by patient, {run.label(leader)} gains {paired(leader)}"
                f"{', the largest margin of those without target labels' * (leader == best)}; its {title} is "
                f"{score_words(without.loc[leader], study.evaluation.level)}."
            ),
        ]
        if leader != best:
            out.append(
                Sentence(
                    f"{name} {led} ({title} {scores(best)}), {paired(best)}, but could not be shown to "
                    f"differ; {higher(best)}."
                )
            )
    else:
        why = untested(int(top["n_patients"]), int(top["n_seeds"]))
        why = why or (
            f"no difference could be shown with {count(int(top['n_patients']), 'patient')} and "
            f"{count(int(top['n_seeds']), 'training')} each"
        )
        out = [
            Sentence(f"{name} {led} ({scores(best)}), but {why}{_idle_words(run, best)}.", "none"),
            Sentence(f"Paired by patient, {name} gains {paired(best)}; {higher(best)}."),
        ]
    return out + (_others_shown(run, rows, leader) if n > 1 else [])


def _others_shown(run: LoadedRun, rows: pd.DataFrame, leader: str | None) -> list[Sentence]:
    """The strategies other than the leader that tests show to be better or worse than the baseline.

    Where the alignment of a strategy was not effective, its gain is not credited to it: it is named apart.
    """
    base = run.label(run.study.baseline)
    shown = rows[(rows["p_holm"] <= 1 - run.study.evaluation.level) & (rows.index != leader)]
    idle = [name for name in shown.index if (result := run.effects.get(str(name))) and not result.effective]
    gains = [str(name) for name in shown.index[shown["difference"] > 0]]
    acted = [name for name in gains if name not in idle]
    out = []
    if acted:
        out.append(Sentence(f"Also shown to be better than {base}: {_with_differences(run, rows, acted)}."))
    reasons: dict[str, list[str]] = {}
    for name in gains:
        if name in idle:
            reasons.setdefault(run.effects[name].reason, []).append(name)
    for reason, names in reasons.items():
        out.append(
            Sentence(
                f"{_with_differences(run, rows, names)} {'was' if len(names) == 1 else 'were'} shown to be higher too, "
                f"but {'its' if len(names) == 1 else 'their'} alignment was not effective here ({reason}): "
                f"{_what_else(run, names)}."
            )
        )
    losses = [str(name) for name in shown.index[shown["difference"] < 0]]
    if losses:
        out.append(Sentence(f"Shown to be worse than {base}: {_with_differences(run, rows, losses)}."))
    return out


def _idle_words(run: LoadedRun, name: str) -> str:
    """What the first sentence adds where the alignment of the strategy it names did not act."""
    result = run.effects.get(name)
    if result is None or result.effective:
        return ""
    return f"; its alignment was not effective here ({result.reason}), so {_what_else(run, [name])}"


def _what_else(run: LoadedRun, names: Sequence[str]) -> str:
    """What strategies whose alignment did not act differ in from the baseline."""
    base = run.study.strategy(run.study.baseline)
    parts: list[str] = []
    for strategy in map(run.study.strategy, names):
        for part, words in PARTS_IN_WORDS.items():
            if getattr(strategy, part) != getattr(base, part):
                parts.append(words.format(name=strategy.norm.name.replace("_", " ")))
        parts += ["training settings"] if strategy.training != base.training else []
    result = list(dict.fromkeys(parts))
    if not result:
        return "chance in training is what remains"
    return f"what helped is what else {'it does' if len(names) == 1 else 'they do'} ({listed(result)})"


def _p(p: float, members: int) -> str:
    """Empty where nothing was tested."""
    shown = p_value(p)
    if not shown:
        return ""
    sign = "" if shown.startswith("<") else "= "
    return f"p {sign}{shown}" + (f" after Holm's correction for {members} comparisons" if members > 1 else "")


def _how_many_higher(strategy: Array, baseline: Array) -> str:
    """Of scores of the same patients."""
    higher = int((strategy > baseline).sum())
    if higher == len(strategy):
        return "both patients scored higher" if higher == 2 else f"all {count(higher, 'patient')} scored higher"
    return f"{higher} of {len(strategy)} patients scored higher"


def _with_differences(run: LoadedRun, rows: pd.DataFrame, names: Sequence[str]) -> str:
    """The names with their differences, the largest ones alone where there are many."""
    if len(names) > MOST_NAMED:
        sizes = rows.loc[list(names), "difference"].abs().sort_values(ascending=False, kind="stable")
        named = [name for name in names if name in set(sizes.index[: MOST_NAMED - 1])]
    else:
        named = list(names)
    shown = [f"{run.label(name)} ({signed(rows.loc[name, 'difference'])})" for name in named]
    rest = len(names) - len(named)
    return listed([*shown, f"{rest} more, by less (in the table)"] if rest else shown)


def _with_few_labels(run: LoadedRun, analysis: Analysis, defined: pd.DataFrame, n: int) -> list[Sentence]:
    """What a few target labels buy, each strategy that has some on its own: none of them is a contender."""
    study, alpha = run.study, 1 - run.study.evaluation.level
    measure = answer_measure(study)
    rows = headline(analysis.differences, measure)
    rows = rows[(rows["domain"] == ALL_TARGETS) & (rows["family"] == f"{FEW_FAMILY}, overall")]
    rows = rows[np.isfinite(rows["difference"])]
    base, out = run.label(study.baseline), []
    for row in rows.sort_values("difference", ascending=False, kind="stable").head(MOST_FEW).to_dict("records"):
        name = row["strategy"]
        text = (
            f"With target labels of {few_labels(study, name)}, which the strategies above do not have, "
            f"{run.label(name)} reaches {measure_title(measure)} "
            f"{score_words(defined.loc[name], study.evaluation.level)}, "
        )
        if n == 1:
            text += f"{signed(row['difference'])} against {base}, on this patient."
        else:
            spread = spread_of(pd.Series(row), study.evaluation.level)
            parts = [
                f"paired by patient{', ' * bool(spread)}{spread}",
                _p(row["p_holm"], int(rows["p_holm"].notna().sum())),
            ]
            if not row["p_holm"] <= alpha:
                why = untested(int(row["n_patients"]), int(row["n_seeds"]))
                parts.append(f"not tested: {why}" if why else "no difference could be shown")
            text += f"{signed(row['difference'])} against {base} ({'; '.join(filter(None, parts))})."
        out.append(Sentence(text))
    if len(rows) > MOST_FEW:
        more = count(len(rows) - MOST_FEW, "more strategy").replace("one more strategy", "One more strategy")
        out.append(Sentence(f"{more[0].upper()}{more[1:]} with a few target labels: see the table."))
    return out


def _gap(run: LoadedRun, analysis: Analysis) -> list[Sentence]:
    results = headline(analysis.results, answer_measure(run.study))
    ceiling = results[(results["strategy"] == ceiling_of(run.study)) & (results["domain"] == ALL_TARGETS)]
    if ceiling.empty or not np.isfinite(ceiling.iloc[0]["mean"]):
        return []
    text = (
        f"Training on target labels as well ({run.label(run.study.ceiling)}, the ceiling, which a user without target "
        f"labels cannot reach) gives {score_words(ceiling.iloc[0], run.study.evaluation.level)}."
    )
    if above := _above_ceiling(run, results, float(ceiling.iloc[0]["mean"])):
        return [Sentence(text), Sentence(above, "caution")]
    gaps = headline(analysis.gaps, answer_measure(run.study))
    gaps = gaps[(gaps["domain"] == ALL_TARGETS) & np.isfinite(gaps["gap_closed"])]
    without = contenders(run.study, gaps["strategy"])
    among = " of those without target labels" if len(without) < len(gaps) else ""
    gaps = gaps[gaps["strategy"].isin(without)]
    if len(gaps):
        top = gaps.loc[gaps["gap_closed"].idxmax()]
        if top["gap_closed"] > 0:
            interval = spread_of(top, run.study.evaluation.level, 0, 100, " %")
            spread = f" ({interval})" if interval else ""
            text += (
                f" Of the gap between the baseline and that ceiling, {run.label(top['strategy'])} closes most{among}: "
                f"{decimal(100 * top['gap_closed'], 0)} %{spread}, "
                "chosen on these same test patients, so probably optimistic."
            )
    return [Sentence(text)]


def _above_ceiling(run: LoadedRun, results: pd.DataFrame, ceiling: float) -> str:
    """What it means that a strategy without target labels scored above the ceiling; empty: none did.

    Args:
        results: rows of the answer's measure. ceiling: its mean over all targets.
    """
    rows = results[(results["domain"] == ALL_TARGETS) & np.isfinite(results["mean"])].set_index("strategy")
    without = rows.loc[contenders(run.study, rows.index), "mean"]
    if without.empty or without.max() <= ceiling + run.study.evaluation.rope:
        return ""
    best = str(without.idxmax())
    return (
        f"{run.label(best)} scored above {run.label(run.study.ceiling)} ({decimal(without[best])} against "
        f"{decimal(ceiling)}), so the ceiling is none in this study, and shares of the gap are not given here. Target "
        "labels teach more than this training took from them: see whether it had converged (Training), and give it "
        "more steps."
    )


def _worst_domain(view: StudyView, without: pd.DataFrame) -> list[Sentence]:
    if view.run.rotates:
        return of_rotations.worst_pair(view)
    run = view.run
    best = without["mean"].idxmax() if len(without) else None
    rows = headline(view.analysis.results, answer_measure(run.study))
    rows = rows[(rows["strategy"] == best) & (rows["role"] == "target") & (rows["domain"] != ALL_TARGETS)]
    rows = rows[np.isfinite(rows["mean"])]
    if best is None or len(rows) < 2:
        return []
    ordered = rows.sort_values("mean")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    return [
        Sentence(
            f"Domains differ: {run.label(best)} ranges from {decimal(low['mean'])} on {low['domain']} to "
            f"{decimal(high['mean'])} on {high['domain']}; the table has every one."
        )
    ]
