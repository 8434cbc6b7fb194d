"""Scores to results: means with intervals, differences against the baseline, and how much of the gap was closed.

Every number here is a statistic over patients and trainings of the scores defined in ``scores`` (see ``crossed``). "All
targets" is, for each patient, the mean over the target domains in which the patient has slides, and then the mean over
patients. Strategies are compared on the (patient, domain, class) cells in which all of them have a score; ``note``
counts the cells that were dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.config import StudyConfig
from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.comparison import holm
from stainda.evaluation.crossed import (
    INTERVAL,
    NONE,
    Estimates,
    difference,
    fieller,
    moments,
    single_mean,
)
from stainda.evaluation.groups import CEILING_FAMILY, ceiling_of, family_of
from stainda.evaluation.metrics import MEASURES, Measure, direction
from stainda.evaluation.scores import ScoreCube
from stainda.run_directory.result_tables import RESULTS

Floats = npt.NDArray[np.float64]

ALL_TARGETS = "all targets"
ALL_SOURCES = "all sources"
ALL_CLASSES = "all"
_ONE_TRAINING = "one training each: the share has no interval"

RESULT_COLUMNS = list(RESULTS.names)
DIFFERENCE_COLUMNS = [
    "strategy", "baseline", "domain", "role", "class", "selection", "measure", "difference", "low", "high", "p",
    "p_holm", "n_patients", "n_seeds", "family", "interval_kind", "note",
]  # fmt: skip
GAP_COLUMNS = [
    "strategy", "domain", "role", "class", "selection", "measure", "baseline", "ceiling", "gap", "gap_closed", "low",
    "high", "n_patients", "n_seeds", "interval_kind", "note",
]  # fmt: skip


@dataclass(frozen=True)
class Region:
    """Domains that are averaged into one number: one domain, or all targets, or all sources."""

    name: str
    role: str
    domains: tuple[str, ...]
    stain: str
    centre: str


class ScoreCells:
    """The statistics of one measure under one selection rule: columns are (strategy, region, class) cells."""

    def __init__(self, cube: ScoreCube, regions: Sequence[Region], selection: str, config: StudyConfig) -> None:
        self.cube, self.regions, self.selection, self.config = cube, regions, selection, config
        names = cube.classes
        self.classes = [(name, (name,)) for name in names] + ([(ALL_CLASSES, names)] if len(names) > 1 else [])
        # float (strategies, patients, regions, classes), and (strategies, trainings, patients, regions, classes)
        self.scores, self.runs = self._laid_out(cube)
        present = [cube.present[:, :, [cube.domains.index(name) for name in region.domains]] for region in regions]
        self.present = np.stack([cells.any(axis=(2, 3)) for cells in present], -1)

    def _laid_out(self, cube: ScoreCube) -> tuple[Floats, Floats]:
        return (
            np.stack([np.stack([cube.over(r.domains, c) for _, c in self.classes], -1) for r in self.regions], -2),
            np.stack([np.stack([cube.runs_over(r.domains, c) for _, c in self.classes], -1) for r in self.regions], -2),
        )

    def results(self) -> pd.DataFrame:
        _, _, n_regions, n_classes = self.scores.shape
        rows = []
        for s in range(len(self.cube.strategies)):
            runs = self.runs[s, : self.cube.seeds[s]]
            result = single_mean(_flat(runs), self.config.evaluation)
            for index, (r, c) in enumerate(np.ndindex(n_regions, n_classes)):
                if not self.present[s, :, r].any():
                    continue
                notes = [result.notes[index], self._absent(s, r, int(result.n[index])), self._undefined(s, r, c)]
                rows.append(
                    {
                        **self._where(s, r, c),
                        "stain": self.regions[r].stain,
                        "centre": self.regions[r].centre,
                        "mean": result.mean[index],
                        **_spread(result, index),
                        **_possible(result.low[index], result.high[index], MEASURES[self.cube.measure]),
                        "n_seeds": self.cube.seeds[s],
                        "note": "; ".join(filter(None, notes)),
                    }
                )
        return pd.DataFrame(rows, columns=RESULT_COLUMNS)

    def differences(self) -> pd.DataFrame:
        """Every strategy against the baseline, patient by patient, on the cells that both have.

        ``p`` is the test over patients and trainings (``crossed``). ``p_holm`` is adjusted within a family: all
        strategies on all targets together (``overall``), or all strategies in all single target domains (``by
        domain``); strategies with a few target labels are families of their own, the ceiling is a member of none
        (:mod:`~stainda.evaluation.groups`). ``note`` says what the numbers of patients and trainings forbid.
        """
        baseline = self.config.baseline
        if baseline not in self.cube.strategies:
            return pd.DataFrame(columns=DIFFERENCE_COLUMNS)
        base = self.cube.strategies.index(baseline)
        rows = []
        for s, strategy in enumerate(self.cube.strategies):
            if s == base:
                continue
            first, second = self.aligned((s, base))
            result = difference(_flat(first), _flat(second), self.config.evaluation)
            for index, (r, c) in enumerate(np.ndindex(first.shape[2:])):
                if result.n[index] == 0:
                    continue
                region = self.regions[r]
                family = "" if region.role != "target" else "overall" if region.name == ALL_TARGETS else "by domain"
                rows.append(
                    {
                        **self._where(s, r, c),
                        "baseline": baseline,
                        "difference": result.mean[index],
                        "p": result.p[index],
                        **_spread(result, index),
                        "n_seeds": min(len(first), len(second)),
                        "family": family_of(self.config, strategy, family),
                        "note": "; ".join(filter(None, [result.notes[index], self._dropped((s, base), r, c)])),
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

        A ratio of means over the patients and cells that all three have, with Fieller's interval over patients and
        trainings. Not given with fewer than :data:`~stainda.evaluation.bootstrap.FEW_PATIENTS` patients, where the gap
        is within its own uncertainty, and where it is practically nothing (up to ``evaluation.rope`` of a score).
        """
        names = self.cube.strategies
        ceiling = ceiling_of(self.config)
        if self.config.baseline not in names or ceiling not in names:
            return pd.DataFrame(columns=GAP_COLUMNS)
        base, top = names.index(self.config.baseline), names.index(ceiling)
        rows = []
        for s in range(len(names)):
            if s in (base, top):
                continue
            three = self.aligned((s, base, top))
            # the contrasts (strategy - baseline), (ceiling - baseline), baseline and ceiling
            contrasts = np.array([[1, -1, 0], [0, -1, 1], [0, 1, 0], [0, 0, 1]], float)
            result = moments([_flat(cells) for cells in three], contrasts)
            shares = fieller(result, self.config.evaluation.level)
            for index, (r, c) in enumerate(np.ndindex(three[0].shape[2:])):
                if self.regions[r].role != "target" or result.n[index] == 0:
                    continue
                why = self._no_share(
                    float(result.mean[1, index]), int(result.n[index]), bool(np.isfinite(shares.share[index]))
                )
                given = not why
                trainings = min(result.trainings)
                spread = given and trainings > 1
                notes = [why or (_ONE_TRAINING if trainings < 2 else ""), self._dropped((s, base, top), r, c)]
                rows.append(
                    {
                        **self._where(s, r, c),
                        "baseline": result.mean[2, index],
                        "ceiling": result.mean[3, index],
                        "gap": result.mean[1, index],
                        "gap_closed": shares.share[index] if given else np.nan,
                        "low": shares.low[index] if spread else np.nan,
                        "high": shares.high[index] if spread else np.nan,
                        "n_patients": result.n[index],
                        "n_seeds": trainings,
                        "interval_kind": INTERVAL if spread else NONE,
                        "note": "; ".join(filter(None, notes)),
                    }
                )
        return pd.DataFrame(rows, columns=GAP_COLUMNS)

    def aligned(self, members: Sequence[int]) -> list[Floats]:
        """Scores of several strategies on the cells that all have, each (trainings, patients, regions, classes)."""
        common = self.cube.common(members)
        _, runs = self._laid_out(common)
        return [run[:size] for run, size in zip(runs, common.seeds, strict=True)]

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

    def _no_share(self, gap: float, n: int, is_shown: bool) -> str:
        """Why a share of this gap is not given; empty where it is."""
        if n < FEW_PATIENTS:
            return f"{n} patient{'s' * (n != 1)}: too few for a share (from {FEW_PATIENTS} on)"
        if direction(self.cube.measure) * gap <= 0:
            return "no gap: the ceiling is not better than the baseline"
        known = MEASURES.get(self.cube.measure)
        if known is not None and known.high is not None and abs(gap) <= self.config.evaluation.rope:
            return f"the gap is practically nothing (up to {self.config.evaluation.rope:g})"
        if is_shown:
            return ""
        return "a gap between baseline and ceiling could not be shown: it is within its own uncertainty"

    def _block(self, members: Sequence[int], r: int, c: int) -> npt.NDArray[np.bool_]:
        """Where strategies have scores, bool (members, cells): the (patient, domain, class) cells of a region."""
        return self.cube.has_score(members, self.regions[r].domains, self.classes[c][1])

    def _dropped(self, members: Sequence[int], r: int, c: int) -> str:
        block = self._block(members, r, c)
        some, every = int(block.any(axis=0).sum()), int(block.all(axis=0).sum())
        if some == every:
            return ""
        return f"{some - every} of {some} scores of a patient in a domain dropped: not all compared have one"

    def _undefined(self, s: int, r: int, c: int) -> str:
        """Scores of single domains that a strategy lacks and another has: its mean is over fewer than the others'."""
        if self.cube.is_single(self.regions[r].domains):
            return ""
        block = self._block(range(len(self.cube.strategies)), r, c)
        some, mine = int(block.any(axis=0).sum()), int(block[s].sum())
        if some == mine:
            return ""
        return f"over {mine} of {some} scores of a patient in a domain: compare by differences, on what both have"

    def _absent(self, s: int, r: int, n: int) -> str:
        seen = int(self.present[s, :, r].sum())
        notes = []
        if seen > n:
            notes.append(f"{seen - n} patient{'s' * (seen - n > 1)} without a score (nothing there and nothing found)")
        if (most := int(self.present[:, :, r].any(axis=0).sum())) > seen:
            notes.append(f"{most - seen} of {most} patients not evaluated")
        return "; ".join(notes)


def _flat(runs: Floats) -> Floats:
    """(trainings, patients, regions, classes) as (trainings, patients, columns)."""
    return runs.reshape(*runs.shape[:2], -1)


def _spread(estimates: Estimates, index: int) -> dict[str, Any]:
    return {
        "low": estimates.low[index], "high": estimates.high[index], "n_patients": estimates.n[index],
        "interval_kind": estimates.kinds[index],
    }  # fmt: skip


def _possible(low: float, high: float, of: Measure) -> dict[str, float]:
    """The ends of an interval, cut at the values that a measure can have: no mean lies beyond them."""
    least, most = -np.inf if of.low is None else of.low, np.inf if of.high is None else of.high
    return {"low": float(np.clip(low, least, most)), "high": float(np.clip(high, least, most))}


def regions_of(
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


def domain_order(records: pd.DataFrame) -> list[str]:
    """Domains by centre, then stain: the order of every table and figure."""
    keys = records.groupby("domain")[["centre", "stain"]].first()
    return [str(name) for name in keys.sort_values(["centre", "stain"]).index]


def _all_of(values: pd.Series) -> str:
    return "+".join(sorted(set(values)))


_NUMBERS = {
    "mean", "low", "high", "difference", "p", "p_holm", "gap", "gap_closed", "n_patients", "n_seeds",
    "value", "score",
}  # fmt: skip
"""Columns that are numbers also where a table has no rows."""


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    empty = tables[0] if tables else pd.DataFrame()
    return empty.astype({name: float for name in empty.columns if name in _NUMBERS})
