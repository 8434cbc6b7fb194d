"""Whether features of an encoder tell tissue before they tell where a slide is from, as PathoROB measures it.

Of every patch the nearest other patches are looked at, those of the same patient left out. A neighbour of the same
class and another group (centre, stain) speaks for robustness, one of another class and the same group against it.

Reference: Kömen et al. 2025, Towards Robust Foundation Models for Digital Pathology, arXiv 2507.17845.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = (1, 3, 5, 7, 9, 11, 21, 31, 51, 71, 101)
"""Numbers of neighbours among which the one is chosen that tells classes best, as far as there are so many."""

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How strongly class and group go together in the training sets of the performance drop."""


@dataclass(frozen=True)
class RobustnessIndex:
    """Of one encoder against one kind of group.

    Attributes:
        index: ``SO / (SO + OS)`` over all patches and their ``k`` nearest neighbours: 1 where classes alone matter, 0
            where groups alone do; not a number where no neighbour says either.
        k: neighbours. balanced_accuracy: of telling the class by the most frequent one among them, over the classes.
        same_class_other_group, other_class_same_group: shares of SO and OS among all neighbours.
        chance: ``index`` of neighbours drawn at random.
    """

    index: float
    k: int
    balanced_accuracy: float
    same_class_other_group: float
    other_class_same_group: float
    chance: float


@dataclass(frozen=True)
class PerformanceDrop:
    """Of one encoder against one kind of group.

    Attributes:
        drop: mean over the levels above 0 of ``accuracy / accuracy at level 0 - 1``, averaged over repeats; 0: nothing
            is lost when class and group go together in training.
        accuracy: at level 0, where they do not. worst: at the highest level.
        note: why it could not be computed; empty else.
    """

    drop: float
    accuracy: float
    worst: float
    note: str = ""


def neighbours(features: NDArray[np.floating[Any]], patients: Sequence[str], k: int) -> NDArray[np.intp]:
    """Indices of the ``k`` nearest patches of other patients, nearest first: ``(n, k)``.

    Features ``(n, d)`` are scaled to length 1; distances are Euclidean. At least ``k`` patches of other patients must
    be there for each.
    """
    rows = np.asarray(features, float)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    of = np.asarray(patients)
    nearest = np.empty((len(rows), k), np.intp)
    for start in range(0, len(rows), 512):
        stop = min(start + 512, len(rows))
        likeness = rows[start:stop] @ rows.T
        likeness[of[start:stop, None] == of[None]] = -np.inf
        nearest[start:stop] = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    return nearest


def robustness_index(
    features: NDArray[np.floating[Any]],
    classes: Sequence[str],
    groups: Sequence[str],
    patients: Sequence[str],
    k: int | None = None,
) -> RobustnessIndex:
    """The robustness index.

    Args:
        features: ``(n, d)``. classes, groups, patients: of each patch.
        k: neighbours; ``None``: of :data:`NEIGHBOURS` the number with the highest balanced accuracy (the smallest of
            them), of those for which there is an index.
    """
    names, codes = np.unique(np.asarray(classes), return_inverse=True)
    _, places = np.unique(np.asarray(groups), return_inverse=True)
    _, people, sizes = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    most = len(codes) - int(sizes.max())
    tried = [count for count in NEIGHBOURS if count <= most] if k is None else [min(k, most)]
    if not tried or tried[-1] < 1:
        return RobustnessIndex(math.nan, 0, math.nan, math.nan, math.nan, math.nan)
    nearest = neighbours(features, people, tried[-1])
    same_class, same_group = codes[nearest] == codes[:, None], places[nearest] == places[:, None]
    speaks = (same_class != same_group).any(axis=0)  # by neighbour: whether it is SO or OS for any patch
    tried = [count for count in tried if speaks[:count].any()] or tried
    accuracies = [_balanced_accuracy(codes, codes[nearest[:, :count]], len(names)) for count in tried]
    chosen = tried[int(np.argmax(accuracies))]
    so = float((same_class & ~same_group)[:, :chosen].mean())
    os = float((~same_class & same_group)[:, :chosen].mean())
    apart = people[:, None] != people[None]
    alike, same_place = codes[:, None] == codes[None], places[:, None] == places[None]
    weight = apart / np.maximum(apart.sum(1, keepdims=True), 1)
    random_so, random_os = float((weight * (alike & ~same_place)).sum()), float((weight * (~alike & same_place)).sum())
    return RobustnessIndex(
        _share(so, os), chosen, max(accuracies), so, os, _share(random_so, random_os)
    )  # fmt: skip


def performance_drop(
    features: NDArray[np.floating[Any]],
    classes: Sequence[str],
    groups: Sequence[str],
    patients: Sequence[str],
    generator: np.random.Generator,
    repeats: int = 10,
) -> PerformanceDrop:
    """The average performance drop of logistic regressions that are trained where class and group go together.

    In each repeat half of the patients of every group train, the others test. Groups are paired with classes in turn.
    At level ρ a training set has ``(1 + ρ) / 2`` of its patches of each group from the group's own class; all training
    sets are equally large, and the test set has equally many of each group and class (in accuracy: cells weigh alike).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    names, codes = np.unique(np.asarray(classes), return_inverse=True)
    places, where = np.unique(np.asarray(groups), return_inverse=True)
    people = np.asarray(patients)
    if len(names) != 2 or len(places) < 2:
        return _no_drop("needs two classes and two groups")
    own = np.arange(len(places)) % 2
    scores = np.full((repeats, len(LEVELS)), np.nan)
    for repeat in range(repeats):
        train = _half_of_patients(where, people, len(places), generator)
        cells = {
            (place, name, part): np.flatnonzero((where == place) & (codes == name) & (train == part))
            for place in range(len(places)) for name in (0, 1) for part in (True, False)
        }  # fmt: skip
        if min(map(len, cells.values())) < 2:
            continue
        size = min(len(cells[place, name, True]) for place in range(len(places)) for name in (0, 1))
        order = {key: generator.permutation(members) for key, members in cells.items()}
        for column, level in enumerate(LEVELS):
            more = round(size * (1 + level) / 2)
            drawn = np.concatenate([
                order[place, name, True][: more if name == own[place] else size - more]
                for place in range(len(places)) for name in (0, 1)
            ])  # fmt: skip
            scaler = StandardScaler().fit(features[drawn])
            fitted = LogisticRegression(max_iter=1000).fit(scaler.transform(features[drawn]), codes[drawn])
            accuracies = [
                float((fitted.predict(scaler.transform(features[members])) == name).mean())
                for (_, name, part), members in cells.items() if not part
            ]  # fmt: skip
            scores[repeat, column] = np.mean(accuracies)
    kept = scores[np.isfinite(scores[:, 0]) & (scores[:, 0] > 0)]
    if not len(kept):
        return _no_drop("needs two patients of every group, with patches of both classes")
    drops = (kept[:, 1:] / kept[:, :1]).mean(axis=1) - 1
    return PerformanceDrop(float(drops.mean()), float(kept[:, 0].mean()), float(kept[:, -1].mean()))


def _half_of_patients(
    where: NDArray[np.intp], people: NDArray[np.str_], places: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Which patches train: of every group those of half of its patients; a patient is on one side in all groups."""
    side: dict[str, bool] = {}
    for place in range(places):
        mine = generator.permutation(np.unique(people[where == place])).tolist()
        free = [person for person in mine if person not in side]
        wanted = len(mine) // 2 - sum(side[person] for person in mine if person in side)
        side |= {person: number < wanted for number, person in enumerate(free)}
    return np.asarray([side[person] for person in people.tolist()])


def _balanced_accuracy(truth: NDArray[np.intp], near: NDArray[np.intp], count: int) -> float:
    """Of the most frequent class among neighbours (the first of several), as the mean over the classes."""
    votes = np.stack([(near == name).sum(axis=1) for name in range(count)], axis=1)
    right = votes.argmax(axis=1) == truth
    return float(np.mean([right[truth == name].mean() for name in range(count)]))


def _share(value: float, other: float) -> float:
    return value / (value + other) if value + other > 0 else math.nan


def _no_drop(note: str) -> PerformanceDrop:
    return PerformanceDrop(math.nan, math.nan, math.nan, note)
