"""Intervals and tests over patients and trainings: by hand, and what they keep of their promises by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from record_makers import counts_for, rows_of
from scipy import stats

from stainda.config import EvaluationConfig
from stainda.evaluation import as_records, difference, fieller, intervals, moments, score_cube, single_mean
from stainda.evaluation.crossed import INTERVAL, NONE, RANGE, THESE_TRAININGS
from stainda.evaluation.rotations import joined_trainings

SETTINGS = EvaluationConfig(resamples=500)


def rng(seed=0):
    return np.random.default_rng(seed)


def drawn(generator, trainings, patients, studies, training_sd, patient_sd=0.05, rest=0.03):
    """Scores of one strategy without any effect, float (trainings, patients, studies)."""
    size = (trainings, patients, studies)
    return (
        generator.normal(0, patient_sd, (1, *size[1:]))
        + generator.normal(0, training_sd, (trainings, 1, studies))
        + generator.normal(0, rest, size)
    )


def test_a_difference_by_hand():
    first, second = rng(1).random((3, 7, 1)), rng(2).random((2, 7, 1))
    found = difference(first, second, SETTINGS, rng())
    apart = first.mean(axis=0)[:, 0] - second.mean(axis=0)[:, 0]
    people = apart.var(ddof=1) / 7
    runs = [one.mean(axis=1)[:, 0].var(ddof=1) / len(one) for one in (first, second)]
    total = people + sum(runs)
    freedom = total**2 / (people**2 / 6 + runs[0] ** 2 / 2 + runs[1] ** 2 / 1)
    assert found.mean[0] == pytest.approx(apart.mean()) and found.error[0] == pytest.approx(np.sqrt(total))
    assert found.freedom[0] == pytest.approx(freedom)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(total)
    assert (found.low[0], found.high[0]) == pytest.approx((apart.mean() - half, apart.mean() + half))
    assert found.p[0] == pytest.approx(2 * stats.t.sf(abs(apart.mean()) / np.sqrt(total), freedom))
    assert found.kinds == (INTERVAL,) and found.notes == ("",) and found.n[0] == 7
    back = difference(second, first, SETTINGS, rng())
    assert (back.mean[0], back.low[0], back.p[0]) == pytest.approx((-found.mean[0], -found.high[0], found.p[0]))


def test_a_mean_by_hand():
    runs = rng(3).random((3, 8, 1))
    found = single_mean(runs, SETTINGS, rng())
    people, trainings = runs.mean(axis=0)[:, 0], runs.mean(axis=1)[:, 0]
    half = np.hypot(
        stats.t.ppf(0.975, 7) * people.std(ddof=1) / np.sqrt(8),
        stats.t.ppf(0.975, 2) * trainings.std(ddof=1) / np.sqrt(3),
    )
    assert (found.low[0], found.high[0]) == pytest.approx((runs.mean() - half, runs.mean() + half))
    assert np.isnan(found.p[0])


def test_a_patient_counts_where_all_trainings_have_a_score():
    first, second = rng(1).random((2, 8, 2)), rng(2).random((2, 8, 2))
    first[1, 0, 0] = np.nan
    found = difference(first, second, SETTINGS, rng())
    without = difference(first[:, 1:, :1], second[:, 1:, :1], SETTINGS, rng())
    assert found.n.tolist() == [7, 8]
    assert (found.mean[0], found.low[0], found.p[0]) == pytest.approx((without.mean[0], without.low[0], without.p[0]))


def test_kinds_by_number_of_patients_and_trainings():
    def kind(trainings, patients):
        found = difference(*rng(patients).random((2, trainings, patients, 1)), SETTINGS, rng())
        return found.kinds[0], bool(np.isfinite(found.p[0])), bool(np.isfinite(found.low[0]))

    assert kind(3, 1) == (NONE, False, False)
    assert kind(3, 5) == (RANGE, False, True)
    assert kind(3, 6) == (INTERVAL, True, True)
    assert kind(1, 6) == (THESE_TRAININGS, False, True)
    assert kind(1, 2) == (RANGE, False, True)
    assert difference(np.full((2, 3, 1), np.nan), np.ones((2, 3, 1)), SETTINGS, rng()).notes == (
        "no patient with a score",
    )


def test_the_range_is_of_patients_and_one_training_has_the_patient_bootstrap():
    few = np.array([[0.1, 0.5, 0.3]])[..., None]
    found = single_mean(np.concatenate([few - 0.01, few + 0.01]), SETTINGS, rng())
    assert (found.low[0], found.high[0]) == pytest.approx((0.1, 0.5))
    one = rng(4).random((1, 9, 1))
    found, plain = single_mean(one, SETTINGS, rng(7)), intervals(one[0], rng(7), resamples=500)
    assert (found.low[0], found.high[0]) == (plain.low[0], plain.high[0])


def test_without_any_spread_p_is_that_of_the_signs():
    found = difference(np.full((2, 6, 1), 0.9), np.full((2, 6, 1), 0.4), SETTINGS, rng())
    assert found.p[0] == 2 / 64 and found.low[0] == pytest.approx(0.5) == found.high[0]
    assert difference(np.full((2, 6, 1), 0.4), np.full((2, 6, 1), 0.4), SETTINGS, rng()).p[0] == 1


@pytest.mark.parametrize(("trainings", "patients", "sd"), [(2, 6, 0.03), (3, 8, 0.03), (5, 20, 0.03), (3, 12, 0.0)])
def test_no_more_than_one_in_twenty_differences_is_called_where_there_is_none(trainings, patients, sd):
    """The sign-flip test called 56 % with three trainings of standard deviation .03; here at most about 6 %."""
    generator = rng(11)
    first, second = (drawn(generator, trainings, patients, 3000, sd) for _ in range(2))
    found = difference(first, second, SETTINGS, rng())
    assert (found.p <= 0.05).mean() <= 0.06
    covered = ((found.low <= 0) & (found.high >= 0)).mean()
    assert covered >= 0.94
    mean = single_mean(first, SETTINGS, rng())
    assert ((mean.low <= 0) & (mean.high >= 0)).mean() >= 0.93
    if sd:
        patients_alone = stats.ttest_1samp((first.mean(axis=0) - second.mean(axis=0)), 0).pvalue
        assert (patients_alone <= 0.05).mean() > 0.1, "what ignoring the trainings would say"


def test_a_true_difference_is_found():
    generator = rng(12)
    found = difference(drawn(generator, 3, 10, 1000, 0.01) + 0.1, drawn(generator, 3, 10, 1000, 0.01), SETTINGS, rng())
    assert (found.p <= 0.05).mean() > 0.85


def test_fieller_by_its_definition():
    """The ends are the shares r for which ``first - r second`` is just at its limit."""
    parts = [rng(seed).normal(mean, 0.05, (3, 9, 1)) for seed, mean in ((1, 0.6), (2, 0.4), (3, 0.9))]
    found = moments(parts, np.array([[1, -1, 0], [0, -1, 1]]))
    shares = fieller(found, 0.95)
    assert shares.share[0] == pytest.approx(found.mean[0, 0] / found.mean[1, 0])
    assert shares.low[0] < shares.share[0] < shares.high[0]
    freedom = min(found.variance(np.array([[1.0], [0.0]]))[1][0], found.variance(np.array([[0.0], [1.0]]))[1][0])
    for end in (shares.low[0], shares.high[0]):
        weights = np.array([[1.0], [-end]])
        off = abs(found.mean[0, 0] - end * found.mean[1, 0])
        assert off == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(found.variance(weights)[0][0]), rel=1e-6)


def test_no_share_of_what_may_be_nothing():
    parts = [rng(seed).normal(mean, 0.2, (3, 9, 1)) for seed, mean in ((1, 0.6), (2, 0.4), (3, 0.42))]
    found = fieller(moments(parts, np.array([[1, -1, 0], [0, -1, 1]])), 0.95)
    assert np.isnan([found.share[0], found.low[0], found.high[0]]).all()


def test_fieller_covers_the_true_share():
    generator = rng(13)
    means = (0.6, 0.4, 0.8)
    parts = [mean + drawn(generator, 3, 8, 2000, 0.02) for mean in means]
    found = fieller(moments(parts, np.array([[1, -1, 0], [0, -1, 1]])), 0.95)
    given = np.isfinite(found.share)
    assert given.mean() > 0.95
    assert ((found.low <= 0.5) & (found.high >= 0.5))[given].mean() >= 0.94


def test_trainings_of_folds_have_other_seeds_and_are_numbered_alike():
    rows = [
        rows_of("dann", "SR@A", patient, counts_for(score), seed=seed)
        for patient, seed, score in (("a", 7, 0.5), ("a", 9, 0.7), ("b", 1, 0.2), ("b", 4, 0.4), ("b", 5, 0.9))
    ]
    tables = [as_records(pd.DataFrame([*rows[0], *rows[1]])), as_records(pd.DataFrame([*rows[2], *rows[3], *rows[4]]))]
    cube = score_cube(joined_trainings(tables), "dice")
    assert cube.seeds.tolist() == [2], "no more trainings than the fold with the fewest"
    np.testing.assert_allclose(cube.runs[0, :, :, 0, 0], [[0.5, 0.2], [0.7, 0.4]])
    np.testing.assert_allclose(cube.values[0, :, 0, 0], [0.6, 0.3])


def test_a_score_that_one_training_lacks_is_no_score_of_the_strategy():
    rows = [*rows_of("dann", "SR@A", "a", counts_for(0.5), seed=0), *rows_of("dann", "SR@A", "a", (0, 0, 0), seed=1)]
    cube = score_cube(as_records(pd.DataFrame(rows)), "dice")
    assert np.isnan(cube.values).all() and np.isnan(cube.runs).all() and cube.present.all()
