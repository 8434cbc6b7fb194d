"""Robustness index and performance drop: analytic cases, and a second implementation of the neighbours."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from stainda.evaluation.robustness import NEIGHBOURS, neighbours, performance_drop, robustness_index


def _cohort(centres=2, patients=4, per_cell=6):
    rows = [
        (name, f"c{centre}", f"c{centre}p{patient}")
        for centre in range(centres) for patient in range(patients) for name in ("object", "other")
        for _ in range(per_cell)
    ]  # fmt: skip
    classes, groups, people = (np.array(column) for column in zip(*rows, strict=True))
    return classes, groups, people


def _features(classes, groups, of_class, of_group, noise=0.01, seed=0):
    """Class along one axis, group along another."""
    rows = np.random.default_rng(seed).normal(0, noise, (len(classes), 6))
    rows[:, 0] += of_class * np.where(classes == "object", 1.0, -1.0)
    rows[:, 1] += of_group * np.where(groups == "c0", 1.0, -1.0)
    rows[:, 2] += 1.0
    return rows


def test_the_ends_of_the_scale():
    classes, groups, people = _cohort()
    biology = robustness_index(_features(classes, groups, 1, 0), classes, groups, people, k=9)
    place = robustness_index(_features(classes, groups, 0, 1), classes, groups, people, k=9)
    assert biology.index == 1 and biology.balanced_accuracy == 1
    assert place.index == 0 and place.balanced_accuracy < 0.7
    assert biology.chance == place.chance


def test_so_many_neighbours_are_looked_at_as_tell_the_class_best():
    classes, groups, people = _cohort()
    features = _features(classes, groups, 0.3, 0.6, noise=0.4)
    found = robustness_index(features, classes, groups, people)
    each = {k: robustness_index(features, classes, groups, people, k).balanced_accuracy for k in NEIGHBOURS if k <= 84}
    assert found.balanced_accuracy == max(each.values()) == each[found.k]


def test_chance_by_hand():
    """4 patients of 12 patches in each of two centres. Of a patch's 84 possible neighbours 24 are of its class in the
    other centre, and 18 of the other class in its own: 24 / 42."""
    classes, groups, people = _cohort()
    found = robustness_index(_features(classes, groups, 0, 0, noise=1), classes, groups, people, k=84)
    assert found.chance == pytest.approx(24 / 42)
    assert found.index == pytest.approx(24 / 42), "all neighbours are taken"


@pytest.mark.parametrize("k", [1, 4, 9])
def test_a_second_implementation_one_patch_at_a_time(k):
    classes, groups, people = _cohort(centres=3, per_cell=3)
    features = _features(classes, groups, 0.5, 0.5, noise=0.6, seed=3)
    so = os = 0
    right = Counter()
    for i, own in enumerate(features):
        away = []
        for j, other in enumerate(features):
            if people[j] != people[i]:
                gap = own / math.sqrt(sum(own**2)) - other / math.sqrt(sum(other**2))
                away.append((math.sqrt(sum(gap**2)), j))
        near = [j for _, j in sorted(away)[:k]]
        assert near == neighbours(features, people, k)[i].tolist()
        so += sum(classes[j] == classes[i] and groups[j] != groups[i] for j in near)
        os += sum(classes[j] != classes[i] and groups[j] == groups[i] for j in near)
        votes = Counter(classes[j] for j in near)
        most = max(votes.values())
        right[classes[i]] += min(name for name, count in votes.items() if count == most) == classes[i]
    found = robustness_index(features, classes, groups, people, k=k)
    assert found.index == pytest.approx(so / (so + os))
    wanted = np.mean([right[name] / (classes == name).sum() for name in ("object", "other")])
    assert found.balanced_accuracy == pytest.approx(wanted)


def test_patches_of_the_same_patient_are_no_neighbours():
    people = _cohort(patients=3, per_cell=2)[2]
    features = np.eye(6)[np.unique(people, return_inverse=True)[1]]  # patients are all that is told
    near = neighbours(features, people, 5)
    assert all(people[j] != people[i] for i, row in enumerate(near) for j in row)


def test_length_does_not_count():
    classes, groups, people = _cohort()
    features = _features(classes, groups, 0.5, 0.5, noise=0.4)
    scaled = features * np.random.default_rng(1).uniform(0.1, 10, (len(features), 1))
    assert robustness_index(scaled, classes, groups, people) == robustness_index(features, classes, groups, people)


def test_the_drop_is_nothing_where_groups_cannot_be_told_and_large_where_they_can():
    classes, groups, people = _cohort(per_cell=12)
    none = performance_drop(_features(classes, groups, 0.5, 0, noise=0.3), classes, groups, people,
                            np.random.default_rng(0))  # fmt: skip
    much = performance_drop(_features(classes, groups, 0.3, 2, noise=0.3), classes, groups, people,
                            np.random.default_rng(0))  # fmt: skip
    assert none.accuracy > 0.9 and abs(none.drop) < 0.05
    assert much.accuracy > 0.75 and much.drop < -0.1 and much.worst < 0.6, much
    # by the group alone, a training set of level 1 is told perfectly and a balanced test set by half
    alone = performance_drop(_features(classes, groups, 1e-6, 2, noise=0.3), classes, groups, people,
                             np.random.default_rng(0))  # fmt: skip
    assert alone.worst == pytest.approx(0.5, abs=0.02)


def test_what_cannot_be_computed_says_why():
    classes, groups, people = _cohort()
    features = _features(classes, groups, 1, 1)
    one = performance_drop(features, classes, ["a"] * len(classes), people, np.random.default_rng(0))
    assert math.isnan(one.drop) and "two groups" in one.note
    alone = performance_drop(features, classes, groups, groups, np.random.default_rng(0))
    assert math.isnan(alone.drop) and "two patients" in alone.note
    assert math.isnan(robustness_index(features, classes, groups, ["p"] * len(classes)).index)
