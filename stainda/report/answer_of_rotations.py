"""Sentences of the answer that speak of rotations; a study of one rotation has none of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from stainda.evaluation.selection import DEFAULT_RULE
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.registered_scores import worst_rows
from stainda.report.run import LoadedRun, RotationResult
from stainda.report.study_view import NotDrawable, StudyView
from stainda.report.summary_text import (
    Sentence,
    answer_measure,
    count,
    headline,
    listed,
    measure_title,
    score_words,
    untested,
)
from stainda.report.tables import decimal, signed

SCHEMES = {
    "all_pairs": "every annotated domain teaches once and is tested on all others",
    "leave_one_centre_out": "each centre is left out once and tested",
    "leave_one_stain_out": "each stain is left out once and tested",
    "pooled": "all domains teach, and other patients of the same domains are tested",
    "one_to_all": "one set of sources, tested on the targets",
}
"""What a protocol does, in words."""
MOST_NAMED = 6


def scheme_words(run: LoadedRun) -> str:
    """What the protocol of the study does."""
    protocol = run.study.protocol
    words = SCHEMES.get(protocol.scheme, protocol.scheme.replace("_", " "))
    return words + (f"; {protocol.folds} folds, so that every patient is tested" if protocol.folds else "")


def how_patients_count(view: StudyView, n: int) -> list[Sentence]:
    """How patients that are tested in several rotations enter the answer."""
    if not view.run.rotates:
        return []
    counts = tested_in(view)
    scored, more = len(view.run.scored), sum(value > 1 for value in counts.values())
    over = f"This is over {count(scored, 'rotation')} ({scheme_words(view.run)}) and {count(n, 'test patient')}"
    if view.folds and not more:
        return [Sentence(f"{over}: the patients of all folds are one cohort, each with the scores of its own fold.")]
    if not more:
        return [Sentence(f"{over}, each tested in one rotation.")]
    tested = "all were" if more == len(counts) else f"{more} of them {'were' if more > 1 else 'was'}"
    return [
        Sentence(
            f"{over}. Each patient counts once, with its mean over the rotations that tested it; {tested} tested in "
            "several."
        )
    ]


def tested_in(view: StudyView) -> dict[str, int]:
    """In how many rotations each patient was tested as a target."""
    counts: dict[str, int] = {}
    for rotation in (member for group in view.analysis.groups for member in group.members):
        for patient in rotation.test.loc[rotation.test["domain"].isin(rotation.tested), "patient"].unique():
            counts[str(patient)] = counts.get(str(patient), 0) + 1
    return counts


def baseline(view: StudyView, base: pd.DataFrame) -> list[Sentence]:
    """What the baseline reaches over what was tested, and in which rotation it is lowest and highest.

    Args:
        base: its results by domain.
    """
    run, study, noun = view.run, view.run.study, view.noun
    level, name = study.evaluation.level, run.label(study.baseline)
    title, reached = measure_title(answer_measure(study)), score_words(base.loc[ALL_TARGETS], level)
    text = f"{name} reaches {title} {reached} on average over what was tested"
    if ALL_SOURCES in base.index and np.isfinite(base.loc[ALL_SOURCES, "mean"]):
        text += f", and {score_words(base.loc[ALL_SOURCES], level)} in other patients of the domains it learned from"
    singles = base[(base["role"] == "target") & (base.index != ALL_TARGETS) & np.isfinite(base["mean"])]
    if noun == "domain" and len(singles):  # stains and centres have rows of their own
        singles = singles[(singles["stain"] != "*") & (singles["centre"] != "*")]
    if len(singles) > 1:
        low, high = singles["mean"].idxmin(), singles["mean"].idxmax()
        text += (
            f"; by {noun} from {decimal(singles.loc[low, 'mean'])} ({low}) to "
            f"{decimal(singles.loc[high, 'mean'])} ({high})"
        )
    return [Sentence(f"{text}.")]


def in_single_rotations(view: StudyView) -> list[Sentence]:
    """In how many single rotations the best strategy is ahead; nothing where there is one."""
    run, study = view.run, view.run.study
    if not view.by_rotation:
        return []
    rows = headline(view.analysis.differences, answer_measure(study))
    overall = rows[(rows["domain"] == ALL_TARGETS) & (rows["family"] == "overall") & np.isfinite(rows["difference"])]
    if overall.empty:
        return []
    best = overall.set_index("strategy")["difference"].idxmax()
    mine = rows[(rows["strategy"] == best) & (rows["role"] == "target") & (rows["domain"] != ALL_TARGETS)]
    mine = mine[np.isfinite(mine["difference"])].set_index("domain")
    if len(mine) < 2:
        return []
    low, high = mine["difference"].idxmin(), mine["difference"].idxmax()
    ahead = int((mine["difference"] > 0).sum())
    shown = int(((mine["difference"] > 0) & (mine["p_holm"] <= 1 - study.evaluation.level)).sum())
    many = f"in {ahead} of {len(mine)}" if ahead < len(mine) else f"in all {len(mine)}"
    text = (
        f"Rotation by rotation, {run.label(best)} is ahead of {run.label(study.baseline)} {many}, by "
        f"{signed(mine.loc[low, 'difference'])} ({low}) to {signed(mine.loc[high, 'difference'])} ({high}); shown in "
        f"{shown or 'none'} of them after correction for all strategies and rotations."
    )
    if not mine["p"].notna().any():
        text += f" None was tested: {untested(int(mine['n_patients'].max()), int(mine['n_seeds'].min()))}."
    return [Sentence(text, "result" if shown else "none")]


def worst_pair(view: StudyView) -> list[Sentence]:
    """The lowest and highest pair of sources and target of the best strategy without target labels."""
    measure = answer_measure(view.run.study)
    try:
        best, rows = view.best(measure), worst_rows(view, measure, DEFAULT_RULE)
    except NotDrawable:
        return []
    rows = rows[(rows["strategy"] == best) & np.isfinite(rows["mean"])]
    if best is None or len(rows) < 2:
        return []
    low, high = rows.loc[rows["mean"].idxmin()], rows.loc[rows["mean"].idxmax()]
    return [
        Sentence(
            f"By sources and target, {view.run.label(best)} ranges from {decimal(low['mean'])} ({low['domain']}) to "
            f"{decimal(high['mean'])} ({high['domain']})."
        )
    ]


def not_in_the_answer(run: LoadedRun) -> list[Sentence]:
    """Rotations that are not in the answer."""
    if not run.rotates:
        return []
    result = []
    missing = [rotation for rotation in run.rotations if not rotation.scored and rotation.state != "left out"]
    failed = [member for member in missing if member.state == "failed"]
    rest = [member for member in missing if member.state != "failed"]
    of = len([rotation for rotation in run.rotations if rotation.state != "left out"])
    if failed:
        reasons = "; ".join(f"{member.name}: {member.reason}" for member in failed[:MOST_NAMED] if member.reason)
        text = f"{count(len(failed), 'rotation').capitalize()} of {of} failed and {_is(len(failed))} not in the answer"
        result.append(Sentence(f"{text} ({reasons or names_of(failed)}).", "caution"))
    if rest:
        more = f" and {len(rest) - MOST_NAMED} more" if len(rest) > MOST_NAMED else ""
        text = (
            f"{count(len(rest), 'rotation').capitalize()} of {of} {_is(len(rest))} not scored yet and not in the answer"
        )
        result.append(Sentence(f"{text}: {names_of(rest[:MOST_NAMED])}{more}.", "caution"))
    partly = [member for member in run.scored if member.state == "failed"]
    if partly:
        text = f"Failed at its last try, so its scores are those of an earlier one: {names_of(partly)}."
        result.append(Sentence(text, "caution"))
    never = [rotation for rotation in run.rotations if rotation.state == "left out"]
    if never:
        why = "; ".join(dict.fromkeys(member.reason for member in never if member.reason))
        result.append(
            Sentence(f"Never {'a source' if len(never) == 1 else 'sources'}: {names_of(never)} ({why}).", "caution")
        )
    return result


def compared_on_some(view: StudyView) -> list[Sentence]:
    """Strategies that have scores in some rotations only."""
    if not view.by_rotation:
        return []
    most, measure, sentences = len(view.analysis.groups), answer_measure(view.run.study), []
    for name in view.look.present(list(view.overall(measure).index)):
        n = view.analysis.rotations_of(name, measure)
        if n < most:
            text = f"{view.run.label(name)} has scores in {n} of {most} rotations and is compared on these alone"
            sentences.append(Sentence(f"{text}; its mean over all is of fewer than the others'.", "caution"))
    return sentences


def not_independent(run: LoadedRun) -> list[Sentence]:
    """That rotations are no independent repetitions."""
    if len(run.scored) < 2:
        return []
    text = (
        "Rotations share training sections and patients, so they are no independent repetitions. Intervals and tests "
        "are over patients, never over rotations."
    )
    return [Sentence(text, "caution")]


def names_of(rotations: Iterable[RotationResult]) -> str:
    """Names of rotations, as in a sentence."""
    return listed([rotation.name.replace("_", " ") for rotation in rotations])


def _is(n: int) -> str:
    return "is" if n == 1 else "are"
