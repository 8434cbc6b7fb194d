"""Records to results: means with intervals, differences against the baseline, and how much of the gap was closed.

Every number here is a statistic over patients of the scores defined in ``scores``. "All targets" is, for each patient,
the mean over the target domains in which the patient has slides, and then the mean over patients.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.config import StudyConfig
from stainda.errors import RecordError
from stainda.evaluation.bootstrap import (
    Intervals,
    Method,
    intervals,
    quantile_interval,
    resampling_weights,
    weighted_means,
)
from stainda.evaluation.comparison import holm, sign_flip_test, wilcoxon_test
from stainda.evaluation.groups import CEILING_FAMILY, family_of
from stainda.evaluation.scores import ScoreCube, ordered, score_cube
from stainda.evaluation.selection import DEFAULT_RULE, RULES, chosen_records, select
from stainda.randomness import generator_for

ALL_TARGETS, ALL_SOURCES = "all targets", "all sources"
ALL_CLASSES = "all"
COMPARED_BY = ("dice", "object_f1")
"""Measures by which selection rules are compared with the default one."""

RESULT_COLUMNS = [
    "strategy", "stain", "centre", "selection", "measure", "mean", "low", "high", "n_patients", "n_seeds",
    "domain", "role", "class", "note",
]  # fmt: skip
DIFFERENCE_COLUMNS = [
    "strategy", "baseline", "domain", "role", "class", "selection", "measure", "difference", "low", "high", "p",
    "p_holm", "p_wilcoxon", "n_patients", "family", "note",
]  # fmt: skip
GAP_COLUMNS = [
    "strategy", "domain", "role", "class", "selection", "measure", "baseline", "ceiling", "gap", "gap_closed", "low",
    "high", "n_patients", "note",
]  # fmt: skip


@dataclass(frozen=True)
class Region:
    """Domains that are averaged into one number: one domain, or all targets, or all sources."""

    name: str
    role: str
    domains: tuple[str, ...]
    stain: str
    centre: str


@dataclass(frozen=True)
class Analysis:
    """Everything the statistics say about a study, as tables. ``patients`` holds the scores they are made of."""

    results: pd.DataFrame
    differences: pd.DataFrame
    gaps: pd.DataFrame
    choices: pd.DataFrame
    patients: pd.DataFrame
    sources: tuple[str, ...]
    targets: tuple[str, ...]


def summarise(
    records: pd.DataFrame, trials: pd.DataFrame | None, config: StudyConfig, unsupervised: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The table results.csv: one row per strategy, domain, class, selection rule and measure.

    ``mean`` is over the test patients; ``low`` and ``high`` are the ends of the patient bootstrap at
    ``config.evaluation.level``, empty where ``note`` says why. Beside single domains there are rows for
    :data:`ALL_TARGETS` and :data:`ALL_SOURCES` (stain and centre ``*``), and, with several classes, for the class
    ``all``: each patient's mean over the classes.
    """
    return analyse(records, trials, config, unsupervised).results


def analyse(
    records: pd.DataFrame, trials: pd.DataFrame | None, config: StudyConfig, unsupervised: pd.DataFrame | None = None
) -> Analysis:
    """All tables at once; see :class:`Analysis` and the functions of this module.

    Under the default selection rule of every measure, under the other rules of :data:`COMPARED_BY`.

    Args:
        unsupervised: scores of checkpoints on unlabelled targets, see :func:`~stainda.evaluation.selection.select`.

    Raises:
        RecordError: there are no test records.
    """
    test = records[records["split"] == "test"]
    if test.empty:
        raise RecordError("there are no records of test patients", remedy="Give at least one patient the split test")
    domains = ordered(records["domain"], _domain_order(records))
    sources = tuple(matching(domains, config.protocol.sources or ("*",)))  # pooled: every domain teaches
    targets = tuple(
        name
        for name in domains
        if name not in sources and ("rest" in config.protocol.targets or matching([name], config.protocol.targets))
    )
    choices = select(records, sources, trials, unsupervised=unsupervised)
    order = {
        "strategies": [one.name for one in config.strategies],
        "domains": domains,
        "classes": config.task.classes,
    }
    regions = list(_regions(test, domains, sources, targets))
    parts: dict[str, list[pd.DataFrame]] = {"results": [], "differences": [], "gaps": [], "patients": []}
    for one in RULES:
        picked = chosen_records(test, choices, one.name)
        for measure in ordered(picked["measure"], []):
            if one.name != DEFAULT_RULE and measure not in COMPARED_BY:
                continue
            cube = score_cube(picked, measure, order)
            cells = _Cells(cube, [region for region in regions if _any_in(region, cube)], one.name, config)
            parts["results"].append(cells.results())
            parts["differences"].append(cells.differences())
            parts["gaps"].append(cells.gaps())
            parts["patients"].append(cells.patients())
    tables = {name: _joined(tables) for name, tables in parts.items()}
    return Analysis(
        tables["results"].reindex(columns=RESULT_COLUMNS),
        tables["differences"].reindex(columns=DIFFERENCE_COLUMNS),
        tables["gaps"].reindex(columns=GAP_COLUMNS),
        choices,
        tables["patients"],
        sources,
        targets,
    )


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that match any shell-style pattern."""
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


class _Cells:
    """The statistics of one measure under one selection rule: columns are (strategy, region, class) cells."""

    def __init__(self, cube: ScoreCube, regions: Sequence[Region], selection: str, config: StudyConfig) -> None:
        self.cube, self.regions, self.selection, self.config = cube, regions, selection, config
        names = cube.classes
        self.classes = [(name, (name,)) for name in names] + ([(ALL_CLASSES, names)] if len(names) > 1 else [])
        # float (strategies, patients, regions, classes)
        self.scores = np.stack(
            [np.stack([cube.over(region.domains, inside) for _, inside in self.classes], -1) for region in regions], -2
        )
        present = [cube.present[:, :, [cube.domains.index(name) for name in region.domains]] for region in regions]
        self.present = np.stack([one.any(axis=(2, 3)) for one in present], -1)

    def results(self) -> pd.DataFrame:
        strategies, patients, n_regions, n_classes = self.scores.shape
        columns = self.scores.transpose(1, 0, 2, 3).reshape(patients, -1)
        found = self._intervals(columns)
        rows = []
        for index, (s, r, c) in enumerate(np.ndindex(strategies, n_regions, n_classes)):
            if not self.present[s, :, r].any():
                continue
            region = self.regions[r]
            rows.append(
                {
                    **self._where(s, r, c),
                    "stain": region.stain,
                    "centre": region.centre,
                    "mean": found.mean[index],
                    "low": found.low[index],
                    "high": found.high[index],
                    "n_patients": found.n[index],
                    "n_seeds": self.cube.seeds[s],
                    "note": "; ".join(filter(None, [found.notes[index], self._absent(s, r, int(found.n[index]))])),
                }
            )
        return pd.DataFrame(rows, columns=RESULT_COLUMNS)

    def differences(self) -> pd.DataFrame:
        """Every strategy against the baseline, patient by patient.

        ``p`` is the sign-flip permutation test. ``p_holm`` is adjusted within a family: all strategies on all targets
        together (``overall``), or all strategies in all single target domains (``by domain``); strategies with a few
        target labels are families of their own, the ceiling is a member of none (:mod:`~stainda.evaluation.groups`).
        ``note`` says what the number of patients forbids.
        """
        baseline = self.config.baseline
        if baseline not in self.cube.strategies:
            return pd.DataFrame(columns=DIFFERENCE_COLUMNS)
        base = self.cube.strategies.index(baseline)
        others = [i for i, name in enumerate(self.cube.strategies) if name != baseline]
        if not others:
            return pd.DataFrame(columns=DIFFERENCE_COLUMNS)
        differences = np.stack([pair[0] - pair[1] for pair in (self.beside((one, base)) for one in others)])
        shape = differences.shape
        columns = differences.transpose(1, 0, 2, 3).reshape(shape[1], -1)
        found = self._intervals(columns)
        test = sign_flip_test(columns, generator_for(self.config.seed, "sign flips", self.cube.measure))
        ranks = wilcoxon_test(columns, generator_for(self.config.seed, "signed ranks", self.cube.measure))
        rows = []
        for index, (s, r, c) in enumerate(np.ndindex(shape[0], shape[2], shape[3])):
            if found.n[index] == 0:
                continue
            strategy, region = self.cube.strategies[others[s]], self.regions[r]
            family = "" if region.role != "target" else "overall" if region.name == ALL_TARGETS else "by domain"
            rows.append(
                {
                    **self._where(others[s], r, c),
                    "baseline": baseline,
                    "difference": found.mean[index],
                    "low": found.low[index],
                    "high": found.high[index],
                    "p": test.p[index],
                    "p_wilcoxon": ranks.p[index],
                    "n_patients": found.n[index],
                    "family": family_of(self.config, strategy, family),
                    "note": _test_note(int(found.n[index]), float(test.smallest_p[index]), self.config),
                }
            )
        table = pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)
        tested = ~table["family"].isin(["", CEILING_FAMILY])
        table["p_holm"] = np.nan
        for _, members in table[tested].groupby(["family", "class"]):
            table.loc[members.index, "p_holm"] = holm(members["p"].to_numpy(float))
        return table

    def gaps(self) -> pd.DataFrame:
        """(strategy - baseline) / (ceiling - baseline): 0 is the plain baseline, 1 training on target labels.

        A ratio of means over the patients that have all three scores, with its own bootstrap. Not given where the
        ceiling is not above the baseline by more than its own interval.
        """
        names = self.cube.strategies
        if self.config.baseline not in names or self.config.ceiling not in names:
            return pd.DataFrame(columns=GAP_COLUMNS)
        base, top = names.index(self.config.baseline), names.index(self.config.ceiling)
        triples = [self.beside((one, base, top)) for one in range(len(names))]
        rows = []
        for (r, region), (c, _), s in (
            (one, two, three)
            for one in enumerate(self.regions)
            for two in enumerate(self.classes)
            for three in range(len(names))
        ):
            if region.role != "target" or names[s] in (self.config.baseline, self.config.ceiling):
                continue
            triple = triples[s][:, :, r, c].T
            triple = triple[np.isfinite(triple).all(axis=1)]
            if len(triple):
                rows.append({**self._where(s, r, c), **self._gap(triple)})
        return pd.DataFrame(rows, columns=GAP_COLUMNS)

    def beside(self, members: Sequence[int]) -> npt.NDArray[np.float64]:
        """Scores of several strategies to be set beside each other, float (members, patients, regions, classes)."""
        return self.scores[list(members)]

    def patients(self) -> pd.DataFrame:
        """The scores of single patients that the statistics are made of."""
        rows = [
            {**self._where(s, r, c), "patient": patient, "value": self.scores[s, p, r, c]}
            for s, r, c in np.ndindex(self.scores.shape[0], *self.scores.shape[2:])
            for p, patient in enumerate(self.cube.patients)
            if self.present[s, p, r]
        ]
        return pd.DataFrame(rows)

    def _where(self, s: int, r: int, c: int) -> dict[str, Any]:
        region = self.regions[r]
        return {
            "strategy": self.cube.strategies[s],
            "domain": region.name,
            "role": region.role,
            "class": self.classes[c][0],
            "selection": self.selection,
            "measure": self.cube.measure,
        }

    def _intervals(self, columns: npt.NDArray[np.float64]) -> Intervals:
        settings = self.config.evaluation
        return intervals(
            columns,
            generator_for(self.config.seed, "bootstrap"),  # the same draws for all measures and rules
            resamples=settings.resamples,
            level=settings.level,
            method=settings.interval,
        )

    def _gap(self, triple: npt.NDArray[np.float64]) -> dict[str, Any]:
        settings = self.config.evaluation
        score, base, top = triple.mean(axis=0)
        out: dict[str, Any] = {
            "baseline": base, "ceiling": top, "gap": top - base, "n_patients": len(triple), "gap_closed": np.nan,
            "low": np.nan, "high": np.nan, "note": "",
        }  # fmt: skip
        if top - base <= 0:
            return {**out, "note": "no gap: the ceiling is not above the baseline"}
        if len(triple) == 1:
            return {**out, "gap_closed": (score - base) / (top - base), "note": "one patient: no interval"}
        generator = generator_for(self.config.seed, "bootstrap gap")
        means = weighted_means(triple, resampling_weights(len(triple), settings.resamples, generator))
        method: Method = "percentile" if settings.interval == "percentile" else "expanded"
        gap = (means[:, 2] - means[:, 1])[:, None]
        low, _ = quantile_interval(gap, triple[:, :1], settings.level, method)
        if low[0] <= 0:
            return {**out, "note": "a gap between baseline and ceiling could not be shown"}
        ratio = (means[:, 0] - means[:, 1])[:, None] / np.where(gap > 0, gap, np.nan)
        ratio = ratio[np.isfinite(ratio[:, 0])]
        low, high = quantile_interval(ratio, triple[:, :1], settings.level, method)
        note = f"only {len(triple)} patients: the interval is too narrow" if len(triple) < 6 else ""
        return {**out, "gap_closed": (score - base) / (top - base), "low": low[0], "high": high[0], "note": note}

    def _absent(self, s: int, r: int, n: int) -> str:
        seen = int(self.present[s, :, r].sum())
        notes = []
        if seen > n:
            notes.append(f"{seen - n} patient{'s' * (seen - n > 1)} without a score (nothing there or nothing found)")
        if (most := int(self.present[:, :, r].any(axis=0).sum())) > seen:
            notes.append(f"{most - seen} of {most} patients not evaluated")
        return "; ".join(notes)


def _test_note(n: int, smallest: float, config: StudyConfig) -> str:
    if n < 2:
        return "one patient: nothing can be tested"
    if smallest > 1 - config.evaluation.level:
        return f"with {n} patients p cannot be below {smallest:.3g}"
    return ""


def _regions(
    test: pd.DataFrame, domains: Sequence[str], sources: Sequence[str], targets: Sequence[str]
) -> Iterator[Region]:
    names = test.groupby("domain")[["stain", "centre"]].agg(_all_of)
    present = [name for name in domains if name in names.index]
    for name in present:
        role = "source" if name in sources else "target" if name in targets else "other"
        yield Region(name, role, (name,), str(names.loc[name, "stain"]), str(names.loc[name, "centre"]))
    for label, role, members in ((ALL_SOURCES, "source", sources), (ALL_TARGETS, "target", targets)):
        inside = tuple(name for name in present if name in members)
        if inside:
            yield Region(label, role, inside, "*", "*")


def _domain_order(records: pd.DataFrame) -> list[str]:
    """Domains by centre, then stain: the order of every table and figure."""
    keys = records.groupby("domain")[["centre", "stain"]].first()
    return [str(name) for name in keys.sort_values(["centre", "stain"]).index]


def _all_of(values: pd.Series) -> str:
    return "+".join(sorted(set(values)))


def _any_in(region: Region, cube: ScoreCube) -> bool:
    return all(name in cube.domains for name in region.domains)


_NUMBERS = {
    "mean", "low", "high", "difference", "p", "p_holm", "p_wilcoxon", "gap", "gap_closed", "n_patients", "n_seeds",
    "value", "score",
}  # fmt: skip
"""Columns that are numbers also where a table has no rows."""


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [one for one in tables if len(one)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    empty = tables[0] if tables else pd.DataFrame()
    return empty.astype({name: float for name in empty.columns if name in _NUMBERS})
