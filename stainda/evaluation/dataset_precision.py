"""Average precision of a data set: the candidates of all test slides in one ranking, with what patients make of it.

COCO's average precision belongs to a data set, not to a slide or a patient, so patients cannot be averaged. Its
interval comes from the jackknife: with AP of all P patients and AP without patient i, the pseudo-value of a patient is
``P AP - (P - 1) AP(without i)``; pseudo-values of every training enter the interval over patients and trainings
(``crossed``) in the place of scores, as in JAFROC (Chakraborty & Berbaum, Med. Phys. 2004). With fewer than six
patients the range of the patients' own AP is given; where one patient has all annotated objects nothing is, since AP
without it does not exist. AP of a strategy is the mean over its trainings: their scores are no one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.config import EvaluationConfig
from stainda.evaluation.analysis import Analysis
from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.crossed import single_mean
from stainda.evaluation.detection import COCO_THRESHOLDS, Ranked, average_precision
from stainda.evaluation.evidence import CANDIDATE, HIT, MISSED, ranked_at
from stainda.evaluation.scores import nanmean
from stainda.evaluation.selection import DEFAULT_RULE, chosen_records
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.run_directory.result_tables import AVERAGE_PRECISION

Floats = npt.NDArray[np.float64]
THRESHOLDS: Mapping[str, tuple[float, ...]] = {"ap50": (0.5,), "ap75": (0.75,), "ap": COCO_THRESHOLDS}
"""Over which IoU each measure is the mean."""

PRECISION_COLUMNS = AVERAGE_PRECISION.names


@dataclass(frozen=True)
class DatasetPrecision:
    """Average precision of one strategy; ``low`` and ``high`` are what ``kind`` says (see ``crossed``)."""

    mean: float
    low: float
    high: float
    n_patients: int
    n_seeds: int
    annotated: int
    kind: str
    note: str


def dataset_precision(rows: pd.DataFrame, measure: str, settings: EvaluationConfig) -> DatasetPrecision:
    """Average precision over all slides of these rows of ``objects.parquet``, of one strategy and class.

    Raises:
        RecordError: see :func:`~stainda.evaluation.evidence.ranked_at`.
    """
    patients = sorted(rows["patient"].unique())
    seeds = [table for _, table in rows.groupby("seed", sort=True)]
    whole = np.zeros(len(seeds))
    without, own = (np.full((len(seeds), len(patients)), np.nan) for _ in range(2))
    for at, seed in enumerate(seeds):
        used = seed[seed["kind"].isin([CANDIDATE, HIT, MISSED])]
        codes = pd.Categorical(used["patient"], categories=patients).codes
        result = [_precisions(used, codes, len(patients), iou) for iou in THRESHOLDS[measure]]
        whole[at] = np.mean([part[0] for part in result])
        without[at] = np.mean([part[1] for part in result], axis=0)
        own[at] = np.mean([part[2] for part in result], axis=0)
    n = len(patients)
    pseudo = n * whole[:, None] - (n - 1) * without if n > 1 else own
    mean = float(whole.mean())
    annotated = int(rows["kind"].isin([HIT, MISSED]).sum() / max(len(seeds), 1))
    of_one_patient = n > 1 and annotated > 0 and not np.isfinite(without).all()
    has_interval = n >= FEW_PATIENTS and len(seeds) > 1 and not of_one_patient
    if n > 1 and not has_interval:
        pseudo = own
    found_of = single_mean(pseudo[..., None], settings)
    low, high = float(found_of.low[0]), float(found_of.high[0])
    if has_interval:  # about AP itself, from which the mean of pseudo-values differs by the jackknife's bias
        moved = mean - float(nanmean(pseudo.ravel(), axis=0))
        low, high = max(low + moved, 0.0), min(high + moved, 1.0)
    note = "all annotated objects are of one patient: no interval" if of_one_patient else found_of.notes[0]
    return DatasetPrecision(mean, low, high, n, len(seeds), annotated, found_of.kinds[0], note)


def _precisions(rows: pd.DataFrame, codes: npt.NDArray[np.int8], n: int, iou: float) -> tuple[float, Floats, Floats]:
    """AP at one IoU of all patients, without each of them, and of each alone."""
    candidates = (rows["kind"] == CANDIDATE).to_numpy()
    ranked = ranked_at(rows, iou)
    order = np.argsort(-rows["score"].to_numpy(float)[candidates], kind="stable")
    of, truth = codes[candidates][order], np.bincount(codes[~candidates], minlength=n)
    parts = [
        np.array([average_precision(Ranked(ranked.score[kept], ranked.hit[kept], count)) for kept, count in pairs])
        for pairs in (
            [(of != index, int(truth.sum() - truth[index])) for index in range(n)],
            [(of == index, int(truth[index])) for index in range(n)],
        )
    ]
    return average_precision(ranked), parts[0], parts[1]


def precision_table(
    rows: pd.DataFrame, regions: Sequence[tuple[str, str, Sequence[str]]], settings: EvaluationConfig
) -> pd.DataFrame:
    """Average precision of every strategy and class by region, :data:`PRECISION_COLUMNS`.

    Args:
        rows: of ``objects.parquet``, of the trainings that a rule chose.
        regions: name, role and domains of each.
    """
    table = []
    for name, role, domains in regions:
        inside = rows[rows["domain"].isin(domains)]
        for (strategy, cls), some in inside.groupby(["strategy", "class"], sort=False):
            for measure in THRESHOLDS:
                precision = dataset_precision(some, measure, settings)
                table.append(
                    (strategy, name, role, cls, measure, precision.mean, precision.low, precision.high,
                     precision.n_patients, precision.n_seeds, precision.annotated, precision.kind, precision.note)
                )  # fmt: skip
    return pd.DataFrame(table, columns=list(PRECISION_COLUMNS))


def precision_of_study(objects: pd.DataFrame, analysis: Analysis, settings: EvaluationConfig) -> pd.DataFrame:
    """The same for every domain, all targets and all sources, under the default rule; empty without candidates."""
    test = objects[objects["split"] == "test"]
    rows = chosen_records(test, analysis.choices, DEFAULT_RULE)
    if not rows["kind"].eq(CANDIDATE).any():
        return pd.DataFrame(columns=list(PRECISION_COLUMNS))
    roles = {"target": list(analysis.targets), "source": list(analysis.sources)}
    regions: list[tuple[str, str, Sequence[str]]] = [
        (name, next((role for role, members in roles.items() if name in members), "other"), [name])
        for name in sorted(rows["domain"].unique())
    ]
    for name, role in ((ALL_TARGETS, "target"), (ALL_SOURCES, "source")):
        if rows["domain"].isin(roles[role]).any():
            regions.append((name, role, roles[role]))
    return precision_table(rows, regions, settings)
