"""What an encoder is worth before any task: the same measures before and after training without labels.

Features are the bottleneck's, averaged over the patch, batch normalisations by the statistics of each slide's domain.
No label takes part in training; the probe reads labels of the source's patients to measure, and chooses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stainda.randomness import generator_for
from stainda.strategies.detector import Detector
from stainda.strategies.features import FeatureTap, pooled
from stainda.strategies.norm.statistics import estimate_statistics, statistics_of
from stainda.training.contrastive import alignment, uniformity
from stainda.training.job import Job

if TYPE_CHECKING:
    from stainda.patches.serial import SerialPairs
    from stainda.patches.unlabelled_data import UnlabelledData

BATCH = 64
PROBED = 300
"""Patches of the source's training, and of its validation, that the linear probe takes at most."""

PAIRS = 384
"""Pairs of validation patients that are measured at most: whole pairs of sections, drawn at random."""


@dataclass(frozen=True)
class Measures:
    """Of one encoder; not a number where there is nothing to measure on.

    Attributes:
        retrieval: share of patches whose nearest neighbour among the patches of the other section (cosine) shows the
            same place, to within half a patch. chance: of it, by guessing. queries: how many were asked.
        alignment, uniformity: Wang & Isola 2020, of the two patches of a place and of all patches.
        probe: area under the ROC curve of a logistic regression on the features, fitted on labelled patches of the
            source's training patients (an object lies in its middle, or not), on those of its validation patients.
        measured_on: what pairs.
    """

    retrieval: float
    chance: float
    queries: int
    alignment: float
    uniformity: float
    probe: float
    measured_on: str


def measure_encoder(detector: Detector, data: UnlabelledData, job: Job) -> Measures:
    """Measure the encoder of a network on validation patients of the domains that may be seen."""
    encoder = _Encoder(detector)
    pairs = data.validation_pairs
    probe = _probe(encoder, data, job.seed)
    if pairs is None:
        return Measures(
            math.nan, math.nan, 0, math.nan, math.nan, probe, "no registered sections of validation patients"
        )
    pairs = some_sections(pairs, job.seed)
    first, second = _features_of_pairs(encoder, pairs)
    size = int(data.store.meta["size"])
    hits, chance = retrieval(
        first, second, pairs, {name: float(s) for name, s in data.store.meta["downsample"].items()}, size
    )
    note = f"{len(pairs)} places on two sections of validation patients"
    return Measures(
        float(np.mean(hits)) if len(hits) else math.nan, float(np.mean(chance)) if len(chance) else math.nan,
        len(hits), alignment(first, second), uniformity(torch.cat([first, second])), probe, note,
    )  # fmt: skip


def some_sections(pairs: SerialPairs, seed: int) -> SerialPairs:
    """All pairs of some pairs of sections, :data:`PAIRS` at most (but one pair of sections)."""
    table = pairs.table
    which = table["one_slide"].astype(str) + "|" + table["two_slide"].astype(str)
    kept: list[str] = []
    total = 0
    for name in generator_for(seed, "measured sections").permutation(sorted(set(which))).tolist():
        number = int((which == name).sum())
        if kept and total + number > PAIRS:
            continue
        kept.append(name)
        total += number
    return pairs.chosen(which.isin(kept).to_numpy(bool))


def retrieval(
    one: Tensor, two: Tensor, pairs: SerialPairs, downsample: dict[str, float], size: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each first patch finds its place among the second patches of its two sections; the chance of it.

    Args:
        one, two: features ``[N, C]`` of the pairs, in the order of their table. size: pixels of a patch.
    """
    table = pairs.table.reset_index(drop=True)
    hits, chance = [], []
    for (_, slide), members in table.groupby(["one_slide", "two_slide"], sort=False):
        if len(members) < 4:
            continue
        at = members.index.to_numpy()
        first, second = (torch.nn.functional.normalize(side[at], dim=1) for side in (one, two))
        nearest = (first @ second.T).argmax(1).cpu().numpy()
        places = members[["x", "y"]].to_numpy(float)
        away = np.abs(places[:, None] - places[None]).max(-1)
        right = away < size / 2 * downsample[str(slide)]
        hits.append(right[np.arange(len(at)), nearest])
        chance.append(right.mean(1))
    return (
        np.concatenate(hits) if hits else np.zeros(0, bool), np.concatenate(chance) if chance else np.zeros(0)
    )  # fmt: skip


class _Encoder:
    """Features of patches, float ``[N, C]`` on the CPU."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self._tap = detector, FeatureTap(detector.network, "bottleneck")

    @torch.no_grad()
    def __call__(self, images: NDArray[np.uint8], slides: Sequence[str], domains: Sequence[str]) -> Tensor:
        network, names = self._detector.network, np.asarray(domains, dtype=object)
        out: Tensor | None = None
        for domain in dict.fromkeys(names.tolist()):
            at = np.flatnonzero(names == domain)
            own = estimate_statistics(network, self._seen(images, slides, at[:: max(1, len(at) // BATCH)][:BATCH]))
            network.eval()
            with statistics_of(network, own):
                pooled_features = torch.cat(
                    [pooled(self._tap.until(batch)).cpu() for batch in self._seen(images, slides, at)]
                )
            out = pooled_features.new_zeros(len(names), pooled_features.shape[1]) if out is None else out
            out[torch.from_numpy(at)] = pooled_features
        assert out is not None
        return out

    def _seen(self, images: NDArray[np.uint8], slides: Sequence[str], at: NDArray[np.intp]) -> Iterator[Tensor]:
        for start in range(0, len(at), BATCH):
            some = at[start : start + BATCH]
            yield self._detector.see(self._detector.images(images[some]), [slides[index] for index in some])


def _features_of_pairs(encoder: _Encoder, pairs: SerialPairs) -> tuple[Tensor, Tensor]:
    drawn = pairs.read(np.arange(len(pairs)))
    both = np.concatenate([drawn.one, drawn.two])
    slides, domains = [*drawn.one_slides, *drawn.two_slides], [*drawn.one_domains, *drawn.two_domains]
    features = encoder(both, slides, domains)
    return features[: len(pairs)], features[len(pairs) :]


def _probe(encoder: _Encoder, data: UnlabelledData, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import StandardScaler

    features, answers = [], []
    table = data.store.table
    for split in ("train", "val"):
        rows = data.data.labelled(split)
        rows = np.sort(generator_for(seed, "probe", split).permutation(rows)[:PROBED])
        if not len(rows):
            return math.nan
        where = table.iloc[rows]
        encoded = encoder(data.data.images(rows), where["slide"].tolist(), where["domain"].tolist())
        features.append(encoded.numpy())
        labels = data.data.labels(rows)
        inner = slice(labels.shape[1] // 2 - labels.shape[1] // 8, labels.shape[1] // 2 + labels.shape[1] // 8)
        answers.append(((labels[:, inner, inner] > 0) & (labels[:, inner, inner] < 255)).any(axis=(1, 2)))
    if any(len(set(labels.tolist())) < 2 for labels in answers):
        return math.nan
    scaler = StandardScaler().fit(features[0])
    model = LogisticRegression(max_iter=1000, C=0.1).fit(scaler.transform(features[0]), answers[0])
    return float(roc_auc_score(answers[1], model.decision_function(scaler.transform(features[1]))))
