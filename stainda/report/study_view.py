"""What every figure and table starts from: a run, its statistics, and how its strategies are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from stainda.errors import RecordError
from stainda.evaluation import MEASURES, Analysis, Measure, analyse, chosen_records
from stainda.evaluation.crossed import INTERVAL
from stainda.evaluation.groups import ceiling_of, group_of
from stainda.evaluation.insights import Insights, insights
from stainda.evaluation.selection import DEFAULT_RULE
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.figures import Look
from stainda.report.run import LoadedRun, RotationResult
from stainda.report.summary_text import PRIMARY, count, headline, measure_title, percent
from stainda.report.tables import spread_words


class NotDrawable(RecordError):
    """A figure or table cannot be made of this run; the message says what is lacking."""


@dataclass(frozen=True)
class StudyView:
    """A study with its statistics, of one rotation or of several. ``cache`` holds what is costly and used twice."""

    run: LoadedRun
    analysis: Analysis
    look: Look
    cache: dict[str, Insights] = field(default_factory=dict)

    @property
    def level(self) -> str:
        return percent(self.run.study.evaluation.level)

    @property
    def by_rotation(self) -> bool:
        """Whether the tables are about rotations; they are about domains where there is one set of sources."""
        return len(self.analysis.groups) > 1

    @property
    def noun(self) -> str:
        """What the columns of the tables are."""
        return "rotation" if self.by_rotation else "domain"

    @property
    def folds(self) -> bool:
        """One set of sources with several folds."""
        return not self.by_rotation and len(self.analysis.groups[0].members) > 1

    def label_of(self, rotation: RotationResult) -> str:
        """The label of the sources of a scored rotation; empty where the study does not rotate."""
        labels = {member.name: group.label for group in self.analysis.groups for member in group.members}
        return labels[rotation.name]

    def over_rotations(self) -> str:
        """What "all targets" is where the study rotates, as a sentence of a caption."""
        if not self.run.rotates:
            return ""
        if self.folds:
            return "The patients of all folds are one cohort."
        if not self.by_rotation:
            return f"A single rotation is scored ({self.run.scored[0].name.replace('_', ' ')})."
        return "All targets: each patient's mean over the rotations that tested it as a target, every patient once."

    def insights(self, measure: str = PRIMARY) -> Insights:
        if measure not in self.cache:
            self.rows(measure)
            self.cache[measure] = insights(self.analysis, self.run.study, measure)
        return self.cache[measure]

    def pairs(self, measure: str = PRIMARY) -> pd.DataFrame:
        """From the sources of each rotation to domains, of the class the answer speaks of, those with a mean."""
        self.rows(measure)
        rows = headline(self.analysis.pairs, measure)
        return rows[np.isfinite(rows["mean"])]

    def rows(self, measure: str = PRIMARY, selection: str = DEFAULT_RULE, table: str = "results") -> pd.DataFrame:
        """Rows of one table of the analysis, of the class the answer speaks of.

        Raises:
            NotDrawable: the study has no such rows; the message names the measures and rules it has.
        """
        rows = headline(getattr(self.analysis, table), measure, selection)
        if rows.empty:
            results = self.analysis.results
            known = results[results["selection"] == selection]["measure"].unique()
            if not len(known):
                rules = ", ".join(results["selection"].unique())
                raise NotDrawable(f"selection rule {selection!r} chose nothing in this study (there are: {rules})")
            if measure not in set(known):
                raise NotDrawable(
                    f"there is no {measure!r} under the selection rule {selection!r} (there are: {', '.join(known)})"
                )
            if table == "gaps" and self.look.ceiling not in self.look.order:
                raise NotDrawable("the study has no ceiling (an oracle)")
            raise NotDrawable(f"the study has no {table} of {measure!r}")
        return rows

    def overall(self, measure: str = PRIMARY, selection: str = DEFAULT_RULE) -> pd.DataFrame:
        """Rows over all targets, by strategy, those with a mean."""
        rows = self.rows(measure, selection)
        rows = rows[(rows["domain"] == ALL_TARGETS) & np.isfinite(rows["mean"])]
        return rows.set_index("strategy")

    def by_patient(self, measure: str = PRIMARY, selection: str = DEFAULT_RULE) -> pd.DataFrame:
        """Scores over all targets: patients × strategies, in the order of the study."""
        rows = self.rows(measure, selection, "patients")
        rows = rows[rows["domain"] == ALL_TARGETS]
        table = rows.pivot_table(index="patient", columns="strategy", values="value")
        return table[self.look.present(list(table.columns))]

    def few(self, names: Sequence[str], most: int, measure: str = PRIMARY) -> list[str]:
        """At most ``most`` strategies in the order of the study: baseline, ceiling, and the best on all targets."""
        present = self.look.present(names)
        if len(present) <= most:
            return present
        fixed = [name for name in (self.look.baseline, self.look.ceiling) if name in present]
        means = self.overall(measure)["mean"]
        better = MEASURES[measure].higher_is_better if measure in MEASURES else True
        ranked = [name for name in means.sort_values(ascending=not better).index if name in present]
        kept = list(dict.fromkeys([*fixed, *ranked, *present]))[:most]
        return self.look.present(kept)

    def best(self, measure: str = PRIMARY) -> str | None:
        """The strategy with the best mean over all targets, of those without target labels."""
        means = self.overall(measure)["mean"]
        means = means[self.look.contenders(means.index)]
        if means.empty:
            return None
        better = MEASURES[measure].higher_is_better if measure in MEASURES else True
        return str(means.idxmax() if better else means.idxmin())

    def chosen(self, table: pd.DataFrame, selection: str = DEFAULT_RULE, role: str = "target") -> pd.DataFrame:
        """Rows of objects or probabilities on test slides of one role's domains, of what a rule chose."""
        domains = self.analysis.targets if role == "target" else self.analysis.sources
        rows = table[(table["split"] == "test") & table["domain"].isin(domains)]
        return chosen_records(rows, self.analysis.choices, selection)


def make_look(run: LoadedRun) -> Look:
    study, ceiling = run.study, ceiling_of(run.study)
    return Look(
        tuple(strategy.name for strategy in study.strategies),
        {strategy.name: strategy.label for strategy in study.strategies},
        study.baseline,
        ceiling,
        frozenset(
            strategy.name
            for strategy in study.strategies
            if strategy.name != ceiling and group_of(study, strategy.name) != "without"
        ),
    )


def make_view(run: LoadedRun) -> StudyView | None:
    """The statistics of a run; ``None`` where no test patient was scored."""
    if not run.scored:
        return None
    return StudyView(
        run, analyse([rotation.evaluated(run.study) for rotation in run.scored], run.study), make_look(run)
    )


def measure_of(name: str) -> Measure:
    """The measure of that name; one this version does not know is taken to be a score from 0 to 1."""
    return MEASURES.get(name, Measure(name, measure_title(name), "value"))


def axis_title(name: str) -> str:
    """Title of a measure with its unit, and a word where lower is better."""
    known = measure_of(name)
    unit = f", {known.unit}" if known.unit else ""
    return f"{known.title}{unit}" + ("" if known.higher_is_better else " (lower is better)")


def axis_limits(name: str, rows: pd.DataFrame) -> tuple[float, float]:
    """0 to 1 for scores, and from 0 to a little above the highest end of an interval for distances.

    Further where a value or an end of an interval lies beyond: nothing is drawn outside its axis.
    """
    known = measure_of(name)
    values = rows[["mean", "low", "high"]].to_numpy(float)
    values = values[np.isfinite(values)]
    low, top = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if known.high is not None:
        return min(0.0, low), max(float(known.high), top)
    return min(0.0, low * 1.05), top * 1.05 if top > 0 else 1.0


def sample(rows: pd.DataFrame, level: str, overall: bool = False, noun: str = "domain") -> str:
    """What an interval in a figure is, and how many patients are behind it, in each ``noun`` or over all of them."""
    together = rows["domain"].isin([ALL_TARGETS, ALL_SOURCES])
    overall = overall or bool(together.all())
    shown = rows[rows["domain"] == ALL_TARGETS] if overall else rows[~together]
    counts = sorted({int(n) for n in shown["n_patients"] if n > 0})
    if not counts:
        return "No patient has a score."
    people = f"n\u00a0=\u00a0{counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
    noun = ("test patient" if counts[-1] == 1 else "test patients") + ("" if overall else f" per {noun}")
    if counts[-1] == 1:
        return f"{people} {noun}: no intervals; hollow marks."
    hollow = " Hollow marks: no interval." if not shown["interval_kind"].eq(INTERVAL).all() else ""
    lines = spread_words((shown if overall else rows)["interval_kind"], level)
    return f"Marks: means over patients; lines: {lines}; {people} {noun}.{hollow}"


def set_apart(view: StudyView, names: Iterable[str]) -> str:
    """What a caption says of strategies with target labels that are no ceiling; nothing where none is shown."""
    if not view.look.few & set(names):
        return ""
    return " Crosses, purple: learned from some target labels, so excluded from the ranking."


def not_drawn(all_of_them: Iterable[str], shown: Iterable[str], noun: str = "strategy") -> str:
    """What a caption says of strategies, or of what ``noun`` names, that the figure leaves out; nothing if none."""
    rest = len(set(all_of_them) - set(shown))
    return f" Not drawn, in the CSV alone: {count(rest, noun)}." if rest else ""


def people(n: int) -> str:
    return f"n\u00a0=\u00a0{n} test patient{'s' * (n != 1)}"
