"""From records to one number per patient.

The patient is the unit of every statistic. Within a patient, a domain and a class, the counts of all slides are added
and the measure is computed once from the sums (micro within the patient: a slide with many glomeruli counts for more
than one with few); measures without counts are averaged over the slides. Across seeds a patient's scores are averaged,
so a score is what one training of that recipe can be expected to give. Patients then count equally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

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
            slide there or the score is undefined.
        present: bool, same shape: there are records, also where the score is undefined.
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
    seeds: npt.NDArray[np.int64]
    centres: tuple[str, ...]

    def over(self, domains: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.float64]:
        """Each patient's mean over these domains and classes, float (strategies, patients).

        Only combinations in which the patient has a defined score enter; ``nan`` where there is none.
        """
        block = self.values[:, :, [self.domains.index(name) for name in domains]]
        block = block[..., [self.classes.index(name) for name in classes]]
        return nanmean(block.reshape(*block.shape[:2], -1), axis=2)


def nanmean(values: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float64]:
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
    axes = {"strategy": strategies, "patient": patients, "domain": domains, "class": classes}
    index = [pd.Categorical(scores[name], categories=list(labels)).codes for name, labels in axes.items()]
    shape = (len(strategies), len(patients), len(domains), len(classes))
    flat = np.ravel_multi_index(index, shape) if len(scores) else np.zeros(0, np.int64)
    value = scores["value"].to_numpy(float)
    defined = np.isfinite(value)
    size = int(np.prod(shape))
    total = np.bincount(flat[defined], value[defined], minlength=size)
    count = np.bincount(flat[defined], minlength=size)
    values = np.divide(total, count, out=np.full(size, np.nan), where=count > 0).reshape(shape)
    present = (np.bincount(flat, minlength=size) > 0).reshape(shape)
    seeds = rows.groupby("strategy")["seed"].nunique()
    centres = rows.groupby("patient")["centre"].agg(lambda names: "+".join(sorted(set(names))))
    return ScoreCube(
        measure,
        strategies,
        patients,
        domains,
        classes,
        values,
        present,
        np.array([seeds.get(name, 0) for name in strategies], np.int64),
        tuple(str(centres[name]) for name in patients),
    )


def ordered(values: pd.Series, wanted: Sequence[str]) -> tuple[str, ...]:
    """The distinct values, those of ``wanted`` first and in its order, the rest sorted."""
    present = set(values)
    return (*[name for name in wanted if name in present], *sorted(present - set(wanted)))
