"""Groups of patients: level, power, intervals and the false discovery rate."""

from itertools import combinations

import numpy as np
import pytest

from stainda.microenvironment.groups import compare, false_discovery, permutation_p


def test_p_of_all_exchanges_is_that_of_counting():
    a, b = np.array([1.0, 2.0, 3.5]), np.array([4.0, 5.5, 9.0])
    both = np.concatenate([a, b])

    def t(first):
        rest = np.setdiff1d(np.arange(6), first)
        x, y = both[list(first)], both[rest]
        return abs(y.mean() - x.mean()) / np.sqrt(x.var(ddof=1) / 3 + y.var(ddof=1) / 3)

    every = [t(one) for one in combinations(range(6), 3)]
    assert permutation_p(a, b, np.random.default_rng(0)) == pytest.approx(np.mean(np.array(every) >= every[0] - 1e-9))


def test_equal_groups_are_told_apart_as_often_as_the_level_says():
    rng = np.random.default_rng(0)
    p = [permutation_p(rng.lognormal(size=8), rng.lognormal(size=8), rng, 199) for _ in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


def test_groups_that_differ_in_spread_alone_too():
    rng = np.random.default_rng(1)
    p = [permutation_p(rng.normal(0, 1, 12), rng.normal(0, 4, 6), rng, 199) for _ in range(300)]
    assert np.mean(np.array(p) <= 0.05) < 0.10


def test_comparison_has_differences_intervals_and_adjusted_p():
    rng = np.random.default_rng(2)
    patients = [f"P{k}" for k in range(20)]
    groups = {name: "stable" if k < 10 else "rejection" for k, name in enumerate(patients)}
    values = {
        "near": {name: 100 + 60 * (groups[name] == "rejection") + rng.normal(0, 20) for name in patients},
        "far": {name: 100 + rng.normal(0, 20) for name in patients},
        "unknown": {"P0": 1.0, "P11": 2.0},
    }
    near, far, unknown = compare(values, groups, rng)
    assert (near.first, near.second) == ("rejection", "stable")
    assert (
        near.difference == pytest.approx(near.mean_second - near.mean_first) and near.low < near.difference < near.high
    )
    assert near.high < 0 and near.q < 0.01 and near.q >= near.p
    assert far.p > 0.05 and far.low < 0 < far.high
    assert np.isnan(unknown.p) and "no test" in unknown.note


def test_false_discovery_is_benjamini_and_hochbergs():
    assert false_discovery(np.array([0.01, 0.04, 0.03, 0.2])) == pytest.approx([0.04, 0.0533333, 0.0533333, 0.2])
    assert np.isnan(false_discovery(np.array([np.nan, 0.01]))[0])
