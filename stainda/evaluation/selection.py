"""Selection rules: which trial and which checkpoint of a strategy is reported, decided afterwards from records.

As in DomainBed, every checkpoint's scores are recorded and a rule is a function of the table. A rule is handed what
source validation can tell and nothing of the targets; only a rule that declares ``uses_target_labels`` is handed test
scores too, and whatever it chooses is labelled so wherever it appears.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from stainda.errors import LeakError, RecordError, did_you_mean
from stainda.evaluation.scores import patient_scores

CHOICE_COLUMNS = [
    "strategy", "selection", "domain", "trial", "checkpoint", "score", "n_candidates", "uses_target_labels",
]  # fmt: skip
ANY_DOMAIN = "*"
REFIT = "refit"
"""Checkpoint of chosen trainings that were made again from all source patients: test rows alone."""


class SelectionRule(ABC):
    """Chooses one row of a table of candidates.

    Candidates of one strategy have the columns ``trial``, ``checkpoint``, ``n_seeds``, ``objective`` (what the search
    optimised: the source-validation score at training time, ``nan`` where unknown), ``chosen`` (the search settled on
    this trial) and ``validation`` (mean over patients, classes and seeds on the validation patients of the source
    domains). Rules that use target labels also get ``test``, the same of the test patients of one domain.
    """

    name: str
    title: str
    uses_target_labels: ClassVar[bool] = False

    @abstractmethod
    def choose(self, candidates: pd.DataFrame) -> Any:
        """The index label of the chosen row; ``None`` where the rule cannot choose."""


class SourceValidation(SelectionRule):
    """The trial that was best on source validation, at its best checkpoint. The default, and the only fair one.

    Where the search marked the trial it settled on (the one trained with several seeds), that one is taken; otherwise
    the highest objective, otherwise the highest recorded validation score. Ties go to the earlier trial: the default
    setting is trial 0.
    """

    name = "source_validation"
    title = "best on source validation"

    def choose(self, candidates: pd.DataFrame) -> Any:
        return _best(_prefer(_settled(candidates), "checkpoint", "best"))


class BeforeRefit(SourceValidation):
    """What :class:`SourceValidation` chose, as it was trained first, where the results are of trainings made again from
    all source patients (:data:`REFIT`). Other rules choose among first trainings, and are compared with this one."""

    name = "before_refit"
    title = "best on source validation, first trainings"


class Last(SelectionRule):
    """The same trial as :class:`SourceValidation`, after its last step: no early stopping."""

    name = "last"
    title = "last checkpoint"

    def choose(self, candidates: pd.DataFrame) -> Any:
        rows = _settled(candidates)
        rows = rows[rows["checkpoint"] == "last"]
        return _best(rows) if len(rows) else None


class Oracle(SelectionRule):
    """Per domain, the trial and checkpoint with the highest TEST score: what selection alone could gain at most.

    It reads the labels it is scored on. It is an upper bound on selection, never a result, and is not to be mixed up
    with the strategy ``oracle``, which trains on target labels.
    """

    name = "oracle_selection"
    title = "oracle (selected on the test labels)"
    uses_target_labels = True

    def choose(self, candidates: pd.DataFrame) -> Any:
        return _highest(candidates, "test")


class Unsupervised(SelectionRule):
    """The trial and checkpoint with the highest score of one kind on unlabelled target pixels.

    The scores are made with the checkpoints (``training.unsupervised``) and lie in ``unsupervised.csv``.
    """

    def __init__(self, score: str, title: str) -> None:
        self.score, self.name, self.title = score, score, title

    def choose(self, candidates: pd.DataFrame) -> Any:
        if self.score not in candidates.columns or candidates[self.score].isna().all():
            return None
        return _highest(candidates, self.score)


class RankSum(Unsupervised):
    """The smallest sum of the rank on source validation and of the rank by one unsupervised score.

    A network that has collapsed on the target can look sure of itself; it seldom also does well on the source.
    """

    def __init__(self, score: str, title: str) -> None:
        super().__init__(score, title)
        self.name = f"validation_and_{score}"

    def choose(self, candidates: pd.DataFrame) -> Any:
        if super().choose(candidates) is None:
            return None
        ranks = candidates[["validation", self.score]].rank(ascending=False, na_option="bottom").sum(axis=1)
        return _highest(candidates.assign(ranks=-ranks), "ranks")


RULES: tuple[SelectionRule, ...] = (
    SourceValidation(),
    BeforeRefit(),
    Last(),
    Unsupervised("entropy", "least entropy on targets"),
    Unsupervised("information", "information maximisation"),
    Unsupervised("nuclear_norm", "nuclear norm (BNM)"),
    Unsupervised("neighbourhoods", "soft neighbourhood density"),
    Unsupervised("clusters", "classes match clusters"),
    Unsupervised("nearest_source", "nearest source pixels right"),
    Unsupervised("mmd", "least feature discrepancy"),
    Unsupervised("deep_embedded", "deep embedded validation"),
    Unsupervised("serial_agreement", "agreement of serial sections"),
    RankSum("information", "validation and information, ranks"),
    RankSum("clusters", "validation and clusters, ranks"),
    Oracle(),
)
DEFAULT_RULE = RULES[0].name


def compared_rules(choices: pd.DataFrame) -> tuple[SelectionRule, ...]:
    """The rules in their order; :class:`BeforeRefit` where there was something to choose for it."""
    refitted = choices["selection"].eq(BeforeRefit.name).any()
    return tuple(candidate for candidate in RULES if refitted or candidate.name != BeforeRefit.name)


def rule(name: str) -> SelectionRule:
    """The rule of that name."""
    for candidate in RULES:
        if candidate.name == name:
            return candidate
    raise RecordError(
        f"unknown selection rule {name!r}", remedy=did_you_mean(name, [candidate.name for candidate in RULES])
    )


def select(
    records: pd.DataFrame,
    sources: Iterable[str],
    trials: pd.DataFrame | None = None,
    rules: Sequence[SelectionRule] = RULES,
    measure: str = "dice",
    unsupervised: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Apply rules to records.

    Args:
        records: see ``records.RECORD_COLUMNS``.
        sources: names of the source domains; validation rows of any other domain are refused.
        trials: columns ``strategy``, ``trial``, ``value`` and ``chosen``, where a search was run.
        measure: what validation scores are compared by.
        unsupervised: columns ``strategy``, ``trial``, ``seed``, ``checkpoint`` and one per score, made without target
            labels; rules that need a score that is not there cannot choose.

    Returns:
        One row per strategy and rule (``domain`` is ``*``), or per strategy, rule and domain for rules that choose per
        domain: :data:`CHOICE_COLUMNS`. A rule that cannot choose has no row. Where trainings were made again from all
        source patients (:data:`REFIT`), these are no candidates, and what the default rule chose is reported by them.

    Raises:
        LeakError: there are validation rows of a domain that is not a source.
    """
    sources = tuple(sources)
    again = records["checkpoint"].eq(REFIT)
    refitted, records = bool(again.any()), records[~again]
    validation = records[records["split"] == "val"]
    foreign = sorted(set(validation["domain"]) - set(sources))
    if foreign:
        raise LeakError(
            f"records hold validation scores of {', '.join(foreign)}, which is not a source domain",
            remedy="Validate on the source domains only",
        )
    base = _candidates(records, validation, trials, measure)
    if unsupervised is not None and len(unsupervised):
        keys = ["strategy", "trial", "checkpoint"]
        means = unsupervised.drop(columns="seed").groupby(keys, sort=False).mean(numeric_only=True)
        base = base.merge(means.reset_index(), on=keys, how="left")
    test = _scores(records[records["split"] == "test"], ["strategy", "trial", "checkpoint", "domain"], measure, "test")
    rows: list[dict[str, Any]] = []
    for strategy, candidates in base.groupby("strategy", sort=False):
        for candidate in rules:
            if isinstance(candidate, BeforeRefit) and not refitted:
                continue
            if not candidate.uses_target_labels:
                rows += _row(candidate, candidates, str(strategy), ANY_DOMAIN, "validation")
                continue
            for domain, scores in test[test["strategy"] == strategy].groupby("domain", sort=False):
                seen = candidates.merge(scores[["trial", "checkpoint", "test"]], on=["trial", "checkpoint"])
                rows += _row(candidate, seen, str(strategy), str(domain), "test")
    choices = pd.DataFrame(rows, columns=CHOICE_COLUMNS)
    if refitted:
        choices.loc[choices["selection"] == DEFAULT_RULE, "checkpoint"] = REFIT
    return choices


def as_reported(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of best checkpoints, and of trainings made again from all source patients instead of those they repeat."""
    keys = ["strategy", "trial", "seed"]
    kept = rows[rows["checkpoint"].isin(("best", REFIT))]
    again = pd.MultiIndex.from_frame(kept.loc[kept["checkpoint"] == REFIT, keys])
    repeated = pd.MultiIndex.from_frame(kept[keys]).isin(again)
    return kept[~repeated | kept["checkpoint"].eq(REFIT)]


def chosen_records(records: pd.DataFrame, choices: pd.DataFrame, selection: str) -> pd.DataFrame:
    """The rows of ``records`` that one rule chose."""
    mine = choices.loc[choices["selection"] == selection, ["strategy", "trial", "checkpoint", "domain"]]
    everywhere = mine[mine["domain"] == ANY_DOMAIN].drop(columns="domain")
    parts = [records.merge(everywhere, on=["strategy", "trial", "checkpoint"])] if len(everywhere) else []
    somewhere = mine[mine["domain"] != ANY_DOMAIN]
    if len(somewhere):
        parts.append(records.merge(somewhere, on=["strategy", "trial", "checkpoint", "domain"]))
    return pd.concat(parts, ignore_index=True) if parts else records.iloc[:0]


def _candidates(
    records: pd.DataFrame, validation: pd.DataFrame, trials: pd.DataFrame | None, measure: str
) -> pd.DataFrame:
    keys = ["strategy", "trial", "checkpoint"]
    table = records.groupby(keys, sort=False)["seed"].nunique().rename("n_seeds").reset_index()
    table = table.merge(_scores(validation, keys, measure, "validation"), on=keys, how="left")
    if trials is not None and len(trials):
        known = trials.groupby(["strategy", "trial"]).agg(objective=("value", "mean"), chosen=("chosen", "any"))
        table = table.merge(known.reset_index(), on=["strategy", "trial"], how="left")
        table["chosen"] = table["chosen"].eq(True)
    else:
        table["objective"], table["chosen"] = np.nan, False
    return table


def _scores(rows: pd.DataFrame, keys: list[str], measure: str, name: str) -> pd.DataFrame:
    """Mean over patients, then classes, domains and seeds, of one measure."""
    rows = rows[rows["measure"] == measure]
    if rows.empty:
        return pd.DataFrame(columns=[*keys, name])
    per_patient = patient_scores(rows, ["strategy", "trial", "checkpoint", "seed", "domain", "class"])
    means = per_patient.groupby([*dict.fromkeys([*keys, "seed", "domain", "class"])], sort=False)["value"].mean()
    return means.groupby(keys, sort=False).mean().rename(name).reset_index()


def _row(
    candidate: SelectionRule, candidates: pd.DataFrame, strategy: str, domain: str, column: str
) -> list[dict[str, Any]]:
    index = candidate.choose(candidates) if len(candidates) else None
    if index is None:
        return []
    row = candidates.loc[index]
    return [
        {
            "strategy": strategy,
            "selection": candidate.name,
            "domain": domain,
            "trial": int(row["trial"]),
            "checkpoint": row["checkpoint"],
            "score": float(row[column]),
            "n_candidates": len(candidates),
            "uses_target_labels": candidate.uses_target_labels,
        }
    ]


def _settled(candidates: pd.DataFrame) -> pd.DataFrame:
    """The rows of the one trial that source validation settles on."""
    if candidates["chosen"].any():
        rows = candidates[candidates["chosen"]]
        return rows[rows["trial"] == rows["trial"].min()]
    index = _best(_prefer(candidates, "checkpoint", "best"))
    return candidates[candidates["trial"] == candidates.loc[index, "trial"]]


def _prefer(rows: pd.DataFrame, column: str, value: str) -> pd.DataFrame:
    preferred = rows[rows[column] == value]
    return preferred if len(preferred) else rows


def _best(rows: pd.DataFrame) -> Any:
    column = "objective" if rows["objective"].notna().any() else "validation"
    return _highest(rows, column)


def _highest(rows: pd.DataFrame, column: str) -> Any:
    ordered = rows.sort_values([column, "trial", "checkpoint"], ascending=[False, True, True], na_position="last")
    return ordered.index[0]
