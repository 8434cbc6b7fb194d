"""The answer of a study of several rotations in sentences, generated from the statistics over all rotations."""

from __future__ import annotations

import numpy as np

from stainda.evaluation.groups import contenders
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.methods import methods_paragraph
from stainda.report.rotations import SPLITS, Root, RootView
from stainda.report.rotations_kinds import worst_pairs
from stainda.report.rotations_tables import OwnAnswer, names_of
from stainda.report.study_view import NotDrawable
from stainda.report.tables import decimal, signed
from stainda.report.words import (
    Sentence,
    _best_against_baseline,
    _cautions,
    _gap,
    _score,
    _untested,
    _with_few_labels,
    count,
    headline,
    listed,
)

SCHEMES = {
    "all_pairs": "every annotated domain teaches once and is tested on all others",
    "leave_one_centre_out": "each centre is left out once and tested",
    "leave_one_stain_out": "each stain is left out once and tested",
    "pooled": "all domains teach, and other patients of the same domains are tested",
    "one_to_all": "one set of sources, tested on the targets",
}
"""What a protocol does, in words."""
MOST_NAMED = 6


def scheme_words(root: Root) -> str:
    protocol = root.run.study.protocol
    words = SCHEMES.get(protocol.scheme, protocol.scheme.replace("_", " "))
    return words + (f"; {protocol.folds} folds, so that every patient is tested" if protocol.folds else "")


def unanswered(root: Root) -> list[Sentence]:
    """What is said where no rotation has scores yet."""
    text = "There is no answer yet: no rotation has records of test patients."
    return [Sentence(text, "none"), *_missing(root)]


def answer_of_rotations(view: RootView, answers: dict[str, OwnAnswer]) -> list[Sentence]:
    """What all rotations say together, most important first.

    Args:
        answers: of the single rotations, see :func:`~stainda.report.rotations_tables.own_answers`.
    """
    run, analysis, study, root = view.run, view.analysis, view.run.study, view.known
    results = headline(analysis.results)
    targets = results[results["domain"] == ALL_TARGETS].set_index("strategy")
    defined = targets[np.isfinite(targets["mean"])]
    if defined.empty:
        return [Sentence("No strategy has a score on a tested domain, so there is no answer yet.", "none"),
                *_missing(root)]  # fmt: skip
    n = int(defined["n_patients"].max())
    said: list[Sentence] = []
    if n == 1:
        text = "This is one test patient, not a cohort: there is no interval and no test, and nothing below can be "
        said.append(Sentence(text + "carried over to other patients.", "limit"))
    if study.baseline not in defined.index:
        text = f"The baseline {run.label(study.baseline)!r} has no score, so nothing is compared with it."
        said.append(Sentence(text, "caution"))
    else:
        without = defined.loc[contenders(study, defined.index)]
        said += [*_best_against_baseline(run, analysis, without, n), *_how_counted(view, n)]
        said += [*_baseline(view), *_by_rotation(view, answers), *_with_few_labels(run, analysis, defined, n)]
        said += _gap(run, analysis)
    said += _worst(view)
    return [*said, *_missing(root), *_lacking(view), *_cautions(run, analysis, defined, n), *_not_independent(view)]


def tested_in(view: RootView) -> dict[str, int]:
    """In how many rotations each patient was tested as a target."""
    labels = {turn.name: group for group in view.together.groups for turn in group.members}
    counts: dict[str, int] = {}
    for turn in (turn for group in view.together.groups for turn in group.members):
        rows = turn.records[(turn.records["split"] == "test") & turn.records["domain"].isin(labels[turn.name].tested)]
        for patient in rows["patient"].unique():
            counts[str(patient)] = counts.get(str(patient), 0) + 1
    return counts


def _how_counted(view: RootView, n: int) -> list[Sentence]:
    root, counts = view.known, tested_in(view)
    scored, more = len(root.scored), sum(value > 1 for value in counts.values())
    over = f"This is over {count(scored, 'rotation')} ({scheme_words(root)}) and {count(n, 'test patient')}"
    if root.folds and not more:
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


def _baseline(view: RootView) -> list[Sentence]:
    run, study, noun = view.run, view.run.study, view.known.noun
    results = headline(view.analysis.results)
    base = results[results["strategy"] == study.baseline].set_index("domain")
    level, name = study.evaluation.level, run.label(study.baseline)
    text = f"{name} reaches Dice {_score(base.loc[ALL_TARGETS], level)} on average over what was tested"
    if ALL_SOURCES in base.index and np.isfinite(base.loc[ALL_SOURCES, "mean"]):
        text += f", and {_score(base.loc[ALL_SOURCES], level)} in other patients of the domains it learned from"
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


def _by_rotation(view: RootView, answers: dict[str, OwnAnswer]) -> list[Sentence]:
    """In how many single rotations the best strategy is ahead; nothing where there is one."""
    run, study = view.run, view.run.study
    if view.known.one_cohort or len(answers) < 2:
        return []
    rows = headline(view.analysis.differences)
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
        text += f" None was tested: {_untested(int(mine['n_patients'].max()), int(mine['n_seeds'].min()))}."
    return [Sentence(text, "result" if shown else "none")]


def _worst(view: RootView) -> list[Sentence]:
    """The lowest and highest pair of sources and target of the best strategy without target labels."""
    best = view.best()
    try:
        rows = worst_pairs(view, "dice")
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


def _missing(root: Root) -> list[Sentence]:
    """Rotations that are not in the answer."""
    found = []
    failed = [one for one in root.missing if one.state == "failed"]
    rest = [one for one in root.missing if one.state != "failed"]
    of = len([one for one in root.places if one.state != "left out"])
    if failed:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in failed[:MOST_NAMED] if one.reason)
        text = f"{count(len(failed), 'rotation').capitalize()} of {of} failed and {_is(len(failed))} not in the answer"
        found.append(Sentence(f"{text} ({reasons or names_of(failed)}).", "caution"))
    if rest:
        more = f" and {len(rest) - MOST_NAMED} more" if len(rest) > MOST_NAMED else ""
        text = (
            f"{count(len(rest), 'rotation').capitalize()} of {of} {_is(len(rest))} not scored yet and not in the answer"
        )
        found.append(Sentence(f"{text}: {names_of(rest[:MOST_NAMED])}{more}.", "caution"))
    partly = [one for one in root.scored if one.state == "failed"]
    if partly:
        text = f"Failed at its last try, so its scores are those of an earlier one: {names_of(partly)}."
        found.append(Sentence(text, "caution"))
    never = [one for one in root.places if one.state == "left out"]
    if never:
        why = "; ".join(dict.fromkeys(one.reason for one in never if one.reason))
        found.append(
            Sentence(f"Never {'a source' if len(never) == 1 else 'sources'}: {names_of(never)} ({why}).", "caution")
        )
    return found


def _lacking(view: RootView) -> list[Sentence]:
    """Strategies that have scores in some rotations only."""
    if view.known.one_cohort:
        return []
    most, found = len(view.together.groups), []
    for name in view.look.present(list(view.overall().index)):
        n = view.together.rotations_of(name, "dice")
        if n < most:
            text = f"{view.run.label(name)} has scores in {n} of {most} rotations and is compared on these alone"
            found.append(Sentence(f"{text}; its mean over all is of fewer than the others'.", "caution"))
    return found


def _not_independent(view: RootView) -> list[Sentence]:
    if len(view.known.scored) < 2:
        return []
    text = (
        "Rotations share training sections and patients, so they are no independent repetitions. Intervals and tests "
        "are over patients, never over rotations."
    )
    return [Sentence(text, "caution")]


def asked(root: Root, trained_with: str) -> tuple[str, str]:
    """The rotations as one line of what was asked."""
    names = [one for one in root.places if one.folder]
    shown = names_of(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    return "Rotations", f"{len(names)} ({scheme_words(root)}): {shown}; {trained_with}"


def methods_of_rotations(root: Root, view: RootView | None) -> str:
    """The methods paragraph, with how rotations were dealt and brought together."""
    begun = [one for one in root.places if one.folder]
    sizes = {split: sorted({len(one.patients[split]) for one in begun}) or [0] for split in SPLITS}
    shown = {
        split: f"{found[0]}" + (f" to {found[-1]}" if found[-1] > found[0] else "") for split, found in sizes.items()
    }
    divided = (
        f"training ({shown['train']}), validation ({shown['val']}) and test ({shown['test']}) in each of "
        f"{count(len(begun), 'rotation')} ({root.run.study.protocol.scheme.replace('_', ' ')}: {scheme_words(root)})."
    )
    taught = "the sources of each rotation"
    if len({one.sources for one in begun}) == 1:
        taught = listed(begun[0].sources)
    text = methods_paragraph(root.run, view, divided, taught)
    if view is None or (root.one_cohort and not root.folds):
        return text
    if root.folds:
        return f"{text} The test patients of all folds were analysed as one cohort."
    return (
        f"{text} Over rotations, a patient's score is its mean over the rotations that tested it, so that every "
        "patient counts once; differences were taken within rotations before they were averaged."
    )


def _is(n: int) -> str:
    return "is" if n == 1 else "are"
