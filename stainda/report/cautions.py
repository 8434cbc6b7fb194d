"""What the answer's sentences leave open: few patients, few trainings, jobs that failed, strategies left out."""

from __future__ import annotations

import pandas as pd

from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.groups import contenders
from stainda.report.exclusions import excluded_strategies
from stainda.report.run import LoadedRun
from stainda.report.summary_text import Sentence, count, listed
from stainda.run_directory.result_tables import RECORDS

_OF_A_SCORE = ["seed", "slide", "class", "measure", "value", "tp", "fp", "fn"]


def cautions(run: LoadedRun, defined: pd.DataFrame, n: int) -> list[Sentence]:
    """What a reader of the answer should keep in mind.

    Args:
        defined: a row per strategy with a score over all targets, indexed by its name: ``n_seeds``.
        n: test patients.
    """
    out: list[Sentence] = []
    alpha = 1 - run.study.evaluation.level
    if 1 < n < FEW_PATIENTS:
        out.append(
            Sentence(
                f"There are only {count(n, 'test patient')}. From so few no interval keeps its promise and nothing is "
                f"tested: the page gives the range of the patients. From {FEW_PATIENTS} patients on there are "
                "intervals.",
                "caution",
            )
        )
    without = [name for name in contenders(run.study, defined.index) if name != run.study.baseline]
    seeds = int(defined["n_seeds"].max())
    if n > 1 and len(without) > 1:
        picked = (
            f"The best of {len(without)} strategies was picked on the test patients it is reported on, so its lead is "
            "overestimated."
        )
        corrected = f" Tests are corrected for that (p ≤ {alpha:.2g} after Holm), the mean is not."
        out.append(Sentence(picked + (corrected if n >= FEW_PATIENTS and seeds > 1 else ""), "caution"))
    if few := _few_trainings(seeds, n):
        out.append(Sentence(few, "caution"))
    if fewer := defined.index[defined["n_seeds"] < seeds].tolist():
        names = listed([f"{run.label(name)} ({int(defined.loc[name, 'n_seeds'])})" for name in fewer])
        text = f"Fewer than the {seeds} trainings of the others: {names}. With one training nothing is tested."
        out.append(Sentence(text, "caution"))
    trials = run.trials
    failed = trials[~trials["state"].str.lower().isin(["complete", "completed", "done", "pruned", "running", ""])]
    if len(failed):
        out.append(
            Sentence(f"{count(len(failed), 'training job').capitalize()} failed; see the list of failures.", "caution")
        )
    scored = set(run.records["strategy"])
    lost = [run.label(strategy.name) for strategy in run.study.strategies if strategy.name not in scored]
    if lost:
        out.append(Sentence(f"Without any result: {listed(lost)}.", "caution"))
    for group in alike(run.records):
        text = f"{listed([run.label(name) for name in group])} have the same scores on every slide in every training: "
        out.append(Sentence(f"{text}what distinguishes them changed nothing here.", "caution"))
    if run.earlier:
        names = listed([run.label(title) for title in run.earlier])
        out.append(
            Sentence(
                f"Kept from an earlier call of the same protocol, data and budget: {names}. study.yaml no longer has "
                f"{'it' if len(run.earlier) == 1 else 'them'}.",
                "caution",
            )
        )
    for name, why in excluded_strategies(run).items():
        out.append(Sentence(f"Trained here, but not reported: {run.label(name)} ({why}).", "caution"))
    if RECORDS.path in run.missing:
        out.append(Sentence(f"{run.missing[RECORDS.path].capitalize()}.", "caution"))
    return out


def alike(records: pd.DataFrame) -> list[list[str]]:
    """Strategies all of whose records are the same but for their names, in groups of two and more."""
    groups: dict[bytes, list[str]] = {}
    for name, rows in records.groupby("strategy", sort=False):
        numbers = pd.util.hash_pandas_object(rows[_OF_A_SCORE], index=False).sort_values().to_numpy()
        groups.setdefault(numbers.tobytes(), []).append(str(name))
    return [names for names in groups.values() if len(names) > 1]


def _few_trainings(seeds: int, n: int) -> str:
    """What one or two trainings of each strategy leave unknown; empty of more. Few patients have no intervals."""
    if seeds > 2:
        return ""
    if seeds == 2 and n < FEW_PATIENTS:
        return "Each strategy was trained twice, which says little of how much trainings differ."
    if seeds == 2:
        return (
            "Each strategy was trained twice. Intervals and tests include how much trainings differ, but two trainings "
            "estimate that poorly: intervals are wide (they cover 95 to 99 %) and tests are strict. A third training "
            "helps."
        )
    known = "ranges of the patients stand in place of intervals, and " if n >= FEW_PATIENTS else ""
    return (
        f"Each strategy was trained once, so how much trainings differ is unknown: {known}no strategy is called better."
    )
