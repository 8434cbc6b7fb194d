"""Differences of aggregators: known variances, no test of few trainings, and no claims of equal ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from slides_claims import World, claims, rates

from stainda.evaluation.two_class import CrossedBootstrap, Resampled, Trained, Units
from stainda.slide_level.differences import Variances, difference


def scored(values, patient_draws, rest_draws):
    """A method whose resampled scores are those of its trainings plus draws (r,) of patients and (trainings, r) of a
    rest."""
    values = np.asarray(values, float)
    each = values[:, None] + patient_draws + rest_draws
    return Resampled(values, each.mean(axis=0), each)


def test_the_interval_is_that_of_a_t_test_where_one_part_is_all():
    generator = np.random.default_rng(0)
    draws = generator.normal(size=5000)
    draws = 0.02 * (draws - draws.mean()) / draws.std()
    patients = difference(scored([0.8] * 3, draws, 0), scored([0.7] * 3, 0 * draws, 0), (13, 40), 0.95)
    error = 0.02 * np.sqrt(13 / 12)
    assert (patients.low, patients.high) == pytest.approx(0.1 + error * np.array([-1, 1]) * stats.t.ppf(0.975, 12))
    assert patients.p == pytest.approx(2 * stats.t.sf(0.1 / error, 12), rel=1e-6)

    runs = [[0.70, 0.74, 0.90], [0.60, 0.62, 0.64]]
    trained = difference(scored(runs[0], 0 * draws, 0), scored(runs[1], 0 * draws, 0), (13, 13), 0.95)
    expected = stats.ttest_ind(*runs, equal_var=False)
    assert trained.value == pytest.approx(0.16)
    assert trained.p == pytest.approx(expected.pvalue, rel=1e-6)
    ends = expected.confidence_interval(0.95)
    assert (trained.low, trained.high) == pytest.approx((ends.low, ends.high))


def test_what_belongs_to_one_patient_in_one_training_counts_once():
    """Both variances hold it; where trainings differ by nothing else, that of patients is all that is left."""
    generator = np.random.default_rng(1)
    rest = 0.05 * generator.normal(size=(3, 20000))
    values = 0.8 + np.array([-1, 0, 1]) * 0.05  # their variance is that of the rest
    apart = difference(scored(values, 0, rest), scored([0.8] * 3, 0, 0 * rest), (30, 30), 0.95)
    error = 0.05 / np.sqrt(3) * np.sqrt(30 / 29)
    assert apart.high - apart.low == pytest.approx(2 * error * stats.t.ppf(0.975, 29), rel=0.03)


def test_half_widths_and_p_are_inverse():
    variances = Variances(0.02**2, 0.03**2, (11, 2))
    for tail in (0.3, 0.025, 1e-4):
        assert variances.p_of(variances.half_width(tail)) == pytest.approx(2 * tail)
    assert variances.p_of(0.0) == pytest.approx(1.0)


def of(trainings, patients=24):
    """Two aggregators that differ much, and as many trainings of each."""
    generator = np.random.default_rng(2)
    labels = np.arange(patients) % 2 == 0
    units = Units([f"P{k}" for k in range(patients)], labels, ["B"] * patients)
    bootstrap = CrossedBootstrap(units, 500, generator)
    noise = generator.normal(size=(trainings, patients))
    scores = [noise + 2 * labels, generator.normal(size=(trainings, patients)) - 2 * labels]
    good, bad = (bootstrap.score("auroc", Trained(rows, np.zeros(trainings)), "B") for rows in scores)
    return difference(good, bad, bootstrap.counts("B"), 0.95)


def test_one_training_has_no_interval_and_two_no_test():
    one, two, three = of(1), of(2), of(3)
    assert one.value > 0.5 and np.isnan([one.low, one.high, one.p]).all()
    assert one.note == "one training each: no interval and no test (from 3 on)"
    assert two.low < two.value < two.high and np.isnan(two.p) and two.note == "two trainings each: no test (from 3 on)"
    assert three.low > 0 and three.p < 0.05 and three.note == ""
    few = of(3, patients=10)
    assert np.isnan([few.low, few.p]).all() and "5 positive and 5 negative patients: no test" in few.note


def test_perfect_rankings_are_not_tested():
    same = Resampled(np.ones(3), np.ones(50), np.ones((3, 50)))
    worse = Resampled(np.full(3, 0.9), np.full(50, 0.9), np.full((3, 50), 0.9))
    result = difference(same, worse, (12, 12), 0.95)
    assert np.isnan(result.p) and result.note == "every resample gives the same: no test"


def test_equal_aggregators_are_seldom_said_to_differ():
    """Of 7 with three trainings each; the crossed bootstrap without a correction said it of one study in four."""
    found = rates(World(resamples=200), 3, 100)
    assert found["page"] <= 0.06 and found["bootstrap"] > 0.12


@pytest.mark.parametrize("trainings", [1, 2])
def test_with_fewer_trainings_nothing_is_claimed(trainings):
    generator = np.random.default_rng(3)
    world = World(resamples=100)
    assert not any(claims(world, trainings, generator)["page"] for _ in range(5))
    assert not any(claims(world, trainings, generator, shift=5.0)["shifted"] for _ in range(5))
