"""From records to one number per patient.

The patient is the unit of every statistic. Within a patient, a domain and a class, the counts of all slides are added
and the measure is computed once from the sums (micro within the patient: a slide with many glomeruli counts for more
than one with few); measures without counts are averaged over the slides. Across seeds a patient's scores are averaged,
so a score is what one training of that recipe can be expected to give; the scores of single trainings are kept next to
(``ScoreCube.runs``), since they too vary. A (patient, domain, class) counts where every training of the strategy has a
score there. Patients then count equally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.arrays import Array
from stainda.evaluation.metrics import MEASURES


def patient_scores(records: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One score per patient and combination of ``keys`` (and measure), from the sums of counts over slides.

    Returns:
        ``keys``, ``measure``, ``patient``, ``value``, ``tp``, ``fp``, ``fn``, ``n_slides``.
    """
    by = [*dict.fromkeys([*keys, "measure", "patient"])]
    grouped = records.groupby(by, sort=False, observed=True)
    table = grouped[["tp", "fp", "fn"]].sum(min_count=1)
    table["value"] = grouped["value"].mean()
    table["n_slides"] = grouped["slide"].nunique()
    table = table.reset_index()
    for name in table["measure"].unique():
        known = MEASURES.get(str(name))
        if known is not None and known.formula is not None:
            rows = table["measure"] == name
            table.loc[rows, "value"] = known.formula(
                table.loc[rows, "tp"].to_numpy(), table.loc[rows, "fp"].to_numpy(), table.loc[rows, "fn"].to_numpy()
            )
    return table


@dataclass(frozen=True)
class ScoreCube:
    """Scores of one measure as an array, ready for matrix products.

    Attributes:
        values: float (strategies, patients, domains, classes), averaged over seeds; ``nan`` where a patient has no
            slide there or the score of a seed is undefined.
        present: bool, same shape: there are records, also where the score is undefined.
        runs: float (strategies, most seeds, patients, domains, classes), of single trainings; ``nan`` where ``values``
            is, and beyond the seeds of a strategy.
        seeds: int (strategies,), how many seeds were averaged.
        centres: centre of each patient's test slides, joined by ``+`` where there are several.
    """

    measure: str
    strategies: tuple[str, ...]
    patients: tuple[str, ...]
    domains: tuple[str, ...]
    classes: tuple[str, ...]
    values: npt.NDArray[np.float64]
    present: npt.NDArray[np.bool_]
    runs: npt.NDArray[np.float64]
    seeds: npt.NDArray[np.int64]
    centres: tuple[str, ...]

    def over(self, domains: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.float64]:
        """Each patient's mean over these domains and classes, float (strategies, patients).

        Only combinations in which the patient has a defined score enter; ``nan`` where there is none.
        """
        return self._mean_over(self.values, domains, classes)

    def runs_over(self, domains: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.float64]:
        """The same of single trainings, float (strategies, most seeds, patients)."""
        return self._mean_over(self.runs, domains, classes)

    def _mean_over(self, values: Array, domains: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.float64]:
        block = values[..., [self.domains.index(name) for name in domains], :]
        block = block[..., [self.classes.index(name) for name in classes]]
        return nanmean(block.reshape(*block.shape[:-2], -1), axis=-1)

    def has_score(
        self, members: Sequence[int], domains: Sequence[str], classes: Sequence[str]
    ) -> npt.NDArray[np.bool_]:
        """Where some strategies have scores, bool (members, cells): the (patient, domain, class) cells of domains."""
        block = self.values[list(members)][:, :, [self.domains.index(name) for name in domains]]
        block = block[..., [self.classes.index(name) for name in classes]]
        return np.isfinite(block).reshape(len(block), -1)

    def is_single(self, domains: Sequence[str]) -> bool:
        """Whether a mean over these is the score in one domain."""
        return len(domains) < 2

    def common(self, members: Sequence[int]) -> ScoreCube:
        """Some strategies on what all of them have: undefined wherever one of them is."""
        chosen = list(members)
        both = np.isfinite(self.values[chosen]).all(axis=0)
        return replace(
            self,
            strategies=tuple(self.strategies[index] for index in chosen),
            values=np.where(both, self.values[chosen], np.nan),
            present=self.present[chosen],
            runs=np.where(both, self.runs[chosen], np.nan),
            seeds=self.seeds[chosen],
        )


def nanmean(values: Array, axis: int) -> npt.NDArray[np.float64]:
    """Mean of what is defined, ``nan`` where nothing is, without numpy's warning."""
    defined = np.isfinite(values)
    count = defined.sum(axis=axis)
    total = np.where(defined, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def score_cube(records: pd.DataFrame, measure: str, order: dict[str, Sequence[str]] | None = None) -> ScoreCube:
    """Lay the records of one measure out as an array.

    Args:
        records: rows of ONE checkpoint per strategy, seed and slide (see ``selection.chosen_records``).
        order: wanted orders of ``strategies``, ``domains`` and ``classes``; names missing there are appended.
    """
    rows = records[records["measure"] == measure]
    order = order or {}
    strategies = ordered(rows["strategy"], order.get("strategies", ()))
    domains = ordered(rows["domain"], order.get("domains", ()))
    classes = ordered(rows["class"], order.get("classes", ()))
    patients = tuple(sorted(rows["patient"].unique()))
    scores = patient_scores(rows, ["strategy", "seed", "domain", "class"])
    seed_of = rows.groupby("strategy")["seed"].unique()
    places = {(name, seed): at for name, of in seed_of.items() for at, seed in enumerate(sorted(of))}
    seeds = np.array([len(seed_of.get(name, ())) for name in strategies], np.int64)
    axes = {"strategy": strategies, "patient": patients, "domain": domains, "class": classes}
    index = [pd.Categorical(scores[name], categories=list(labels)).codes for name, labels in axes.items()]
    index.insert(1, np.array([places[key] for key in zip(scores["strategy"], scores["seed"], strict=True)], np.int64))
    runs = np.full((len(strategies), int(seeds.max(initial=0)), len(patients), len(domains), len(classes)), np.nan)
    present = np.zeros(runs.shape, bool)
    runs[tuple(index)], present[tuple(index)] = scores["value"].to_numpy(float), True
    used = (np.arange(runs.shape[1]) < seeds[:, None])[..., None, None, None]
    complete = (np.isfinite(runs) | ~used).all(axis=1, keepdims=True)
    runs = np.where(complete & used, runs, np.nan)
    values = nanmean(runs, axis=1)
    centres = rows.groupby("patient")["centre"].agg(lambda names: "+".join(sorted(set(names))))
    return ScoreCube(
        measure,
        strategies,
        patients,
        domains,
        classes,
        values,
        present.any(axis=1),
        runs,
        seeds,
        tuple(str(centres[name]) for name in patients),
    )


def ordered(values: pd.Series, wanted: Sequence[str]) -> tuple[str, ...]:
    """The distinct values, those of ``wanted`` first and in its order, the rest sorted."""
    present = set(values)
    return (*[name for name in wanted if name in present], *sorted(present - set(wanted)))
