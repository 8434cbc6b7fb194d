"""Intervals and tests over patients and trainings: by hand, and what they keep of their promises by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from record_makers import counts_for, rows_of
from scipy import optimize, stats

from stainda.config import EvaluationConfig
from stainda.evaluation import as_records, difference, fieller, moments, score_cube, single_mean
from stainda.evaluation.crossed import INTERVAL, NONE, RANGE
from stainda.evaluation.pooling import joined_trainings
from stainda.evaluation.widths import Spread

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


def half_by_hand(people, runs, rest, n, sizes, p=0.05):
    """The mean of Student's half width with Satterthwaite's freedom and of Howe's, written down again."""
    trainings = sum(runs)
    net = max(trainings - rest, 0)
    squares = sum(one**2 / (size - 1) for one, size in zip(runs, sizes, strict=True))
    freedom = (people + trainings) ** 2 / (people**2 / (n - 1) + squares)
    student = stats.t.isf(p / 2, freedom) * np.sqrt(max(people + net, trainings))
    howe = np.hypot(
        stats.t.isf(p / 2, n - 1) * np.sqrt(people), stats.t.isf(p / 2, trainings**2 / squares) * np.sqrt(net)
    )
    return howe if min(sizes) < 3 else (student + howe) / 2, freedom


def parts_by_hand(*strategies):
    """Variances over trainings of their mean, and of the rest; each (trainings, patients)."""
    runs = [strategy.mean(axis=1).var(ddof=1) / len(strategy) for strategy in strategies]
    rest = 0.0
    for strategy in strategies:
        left = strategy - strategy.mean(axis=0) - strategy.mean(axis=1)[:, None] + strategy.mean()
        rest += (left**2).sum() / ((strategy.shape[0] - 1) * (strategy.shape[1] - 1)) / strategy.size
    return runs, rest


@pytest.mark.parametrize("last", [2, 4])
@pytest.mark.parametrize("rest", [0.01, 1.0])
def test_a_difference_by_hand(rest, last):
    first, second = (
        rng(seed).normal(0, rest, (n, 7, 1)) + rng(seed + 9).normal(0, 0.4, (n, 1, 1))
        for seed, n in ((1, 3), (2, last))
    )
    found = difference(first, second, SETTINGS)
    apart = first.mean(axis=0)[:, 0] - second.mean(axis=0)[:, 0]
    people = apart.var(ddof=1) / 7
    parts = (people, *parts_by_hand(first[..., 0], second[..., 0]), 7, (3, last))
    half, freedom = half_by_hand(*parts)
    assert found.mean[0] == pytest.approx(apart.mean()) and found.freedom[0] == pytest.approx(freedom)
    assert (found.low[0], found.high[0]) == pytest.approx((apart.mean() - half, apart.mean() + half))
    assert found.error[0] == pytest.approx(half / stats.t.ppf(0.975, freedom)), "t with it has this interval"
    just = optimize.brentq(lambda p: half_by_hand(*parts, p)[0] - abs(apart.mean()), 1e-9, 1 - 1e-9)
    assert found.p[0] == pytest.approx(just, rel=1e-5)
    assert found.kinds == (INTERVAL,) and found.notes == ("",) and found.n[0] == 7
    back = difference(second, first, SETTINGS)
    assert (back.mean[0], back.low[0], back.p[0]) == pytest.approx((-found.mean[0], -found.high[0], found.p[0]))


def test_a_mean_by_hand():
    runs = rng(3).random((3, 8, 1))
    found = single_mean(runs, SETTINGS)
    people = runs.mean(axis=0)[:, 0].var(ddof=1) / 8
    half, _ = half_by_hand(people, *parts_by_hand(runs[..., 0]), 8, (3,))
    assert (found.low[0], found.high[0]) == pytest.approx((runs.mean() - half, runs.mean() + half))
    assert np.isnan(found.p[0])


@pytest.mark.parametrize("sizes", [(2, 3), (3, 4)])
def test_p_is_the_level_whose_interval_ends_at_zero(sizes):
    generator = rng(5)
    k = 400
    spread = Spread(
        generator.gamma(0.5, size=k),
        generator.gamma(0.5, size=(2, k)),
        generator.gamma(0.3, size=k),
        np.full(k, 8),
        sizes,
    )
    mean = generator.normal(size=k) * np.exp(2 * generator.normal(size=k))
    p = spread.p_of(mean)
    np.testing.assert_allclose(spread.half_width(p / 2), np.abs(mean), rtol=1e-5)
    assert ((p <= 0.05) == (np.abs(mean) >= spread.half_width(0.025))).all() and 0.05 < (p <= 0.05).mean() < 0.95
    assert spread.p_of(np.zeros(k)).tolist() == [1.0] * k


def test_the_variance_is_never_less_than_that_of_patients_or_trainings_alone():
    def variance(people, runs, rest):
        return Spread(
            np.array([people]), np.array([[run] for run in runs]), np.array([rest]), np.array([8]), (3, 3)
        ).variance[0]

    assert variance(0.5, (0.2, 0.2), 0.1) == pytest.approx(0.8), "the rest is in both and counts once"
    assert variance(0.5, (0.2, 0.2), 0.9) == 0.5
    assert variance(0.1, (0.2, 0.2), 0.3) == pytest.approx(0.4)


def test_a_patient_counts_where_all_trainings_have_a_score():
    first, second = rng(1).random((2, 8, 2)), rng(2).random((2, 8, 2))
    first[1, 0, 0] = np.nan
    found = difference(first, second, SETTINGS)
    without = difference(first[:, 1:, :1], second[:, 1:, :1], SETTINGS)
    assert found.n.tolist() == [7, 8]
    assert (found.mean[0], found.low[0], found.p[0]) == pytest.approx((without.mean[0], without.low[0], without.p[0]))


def test_kinds_by_number_of_patients_and_trainings():
    def kind(trainings, patients):
        found = difference(*rng(patients).random((2, trainings, patients, 1)), SETTINGS)
        return found.kinds[0], bool(np.isfinite(found.p[0])), bool(np.isfinite(found.low[0]))

    assert kind(3, 1) == (NONE, False, False)
    assert kind(3, 5) == (RANGE, False, True)
    assert kind(3, 6) == (INTERVAL, True, True)
    assert kind(1, 6) == (RANGE, False, True)
    assert kind(1, 2) == (RANGE, False, True)
    assert difference(np.full((2, 3, 1), np.nan), np.ones((2, 3, 1)), SETTINGS).notes == ("no patient with a score",)


def test_the_range_is_of_patients_also_of_many_with_one_training():
    few = np.array([[0.1, 0.5, 0.3]])[..., None]
    found = single_mean(np.concatenate([few - 0.01, few + 0.01]), SETTINGS)
    assert (found.low[0], found.high[0]) == pytest.approx((0.1, 0.5))
    one = rng(4).random((1, 9, 1))
    found = single_mean(one, SETTINGS)
    assert (found.low[0], found.high[0], found.kinds) == (one.min(), one.max(), (RANGE,))
    assert np.isnan(found.error[0]) and "no interval and no test" in found.notes[0]


def test_without_any_spread_p_is_that_of_the_signs():
    found = difference(np.full((2, 6, 1), 0.9), np.full((2, 6, 1), 0.4), SETTINGS)
    assert found.p[0] == 2 / 64 and found.low[0] == pytest.approx(0.5) == found.high[0]
    assert difference(np.full((2, 6, 1), 0.4), np.full((2, 6, 1), 0.4), SETTINGS).p[0] == 1


@pytest.mark.parametrize(
    ("trainings", "patients", "sds"),
    [(2, 6, (0.03, 0.03)), (2, 20, (0.05, 0.01)), (3, 8, (0.03, 0.03)), (3, 20, (0.05, 0.01)), (5, 20, (0.03, 0.03)),
     (3, 12, (0.0, 0.0))],
)  # fmt: skip
def test_no_more_than_six_in_a_hundred_differences_are_called_where_there_is_none(trainings, patients, sds):
    """The sign-flip test called 56 % with three trainings of standard deviation .03; with trainings that vary in one
    strategy alone, Student's t with Satterthwaite's freedom called 10 %."""
    generator = rng(11)
    first, second = (drawn(generator, trainings, patients, 4000, sd) for sd in sds)
    found = difference(first, second, SETTINGS)
    called, mean = (found.p <= 0.05).mean(), single_mean(first, SETTINGS)
    covered = [((one.low <= 0) & (one.high >= 0)).mean() for one in (found, mean)]
    assert called <= 0.065 and min(covered) >= 0.935, "six in a hundred, and 1.3 standard errors of 4,000 studies"
    assert max(covered) <= (0.98 if trainings > 2 else 0.99), "wide from two trainings, and not useless"
    if sds[0]:
        patients_alone = stats.ttest_1samp((first.mean(axis=0) - second.mean(axis=0)), 0).pvalue
        assert (patients_alone <= 0.05).mean() > 0.1, "what ignoring the trainings would say"


def test_a_true_difference_is_found():
    generator = rng(12)
    found = difference(drawn(generator, 3, 10, 1000, 0.01) + 0.1, drawn(generator, 3, 10, 1000, 0.01), SETTINGS)
    assert (found.p <= 0.05).mean() > 0.85


SHARE = np.array([[1, -1, 0], [0, -1, 1]])
"""(strategy - baseline) and (ceiling - baseline)."""


@pytest.mark.parametrize("trainings", [1, 2, 3, 5])
def test_fieller_by_its_definition(trainings):
    """The ends are the shares r for which ``first - r second`` is just at its limit."""
    parts = [rng(seed).normal(mean, 0.05, (trainings, 9, 1)) for seed, mean in ((1, 0.6), (2, 0.4), (3, 0.9))]
    contrasts = moments(parts, SHARE)
    shares = fieller(contrasts, 0.95)
    assert shares.share[0] == pytest.approx(contrasts.mean[0, 0] / contrasts.mean[1, 0])
    assert shares.low[0] < shares.share[0] < shares.high[0]
    for end in (shares.low[0], shares.high[0]):
        away = abs(contrasts.mean[0, 0] - end * contrasts.mean[1, 0])
        assert away == pytest.approx(contrasts.spread(np.array([[1.0], [-end]])).half_width(0.025)[0], rel=1e-6)


def test_fieller_over_patients_alone_is_the_closed_form():
    """With nothing that varies by training: the roots of his quadratic equation."""
    people = rng(4).normal((0.6, 0.4, 0.9), 0.05, (9, 3))
    parts = [np.repeat(people[None, :, k : k + 1], 3, axis=0) for k in range(3)]
    shares = fieller(moments(parts, SHARE), 0.95)
    top, bottom = people[:, 0] - people[:, 1], people[:, 2] - people[:, 1]
    cover, t = np.cov(top, bottom) / 9, stats.t.ppf(0.975, 8)
    quadratic = (
        bottom.mean() ** 2 - t**2 * cover[1, 1], -2 * (top.mean() * bottom.mean() - t**2 * cover[0, 1]),
        top.mean() ** 2 - t**2 * cover[0, 0],
    )  # fmt: skip
    np.testing.assert_allclose([shares.low[0], shares.high[0]], np.sort(np.roots(quadratic)), rtol=1e-9)


def test_a_share_and_the_differences_say_the_same():
    """0 is in the interval of the share where it is in that of the gain, and 1 where the ceiling is not better."""
    generator = rng(21)
    parts = [mean + drawn(generator, 3, 8, 400, 0.02) for mean in (0.45, 0.4, 0.5)]
    shares = fieller(moments(parts, SHARE), 0.95)
    given = np.isfinite(shares.share)
    gain, missing = difference(parts[0], parts[1], SETTINGS), difference(parts[0], parts[2], SETTINGS)
    for value, interval in ((0.0, gain), (1.0, missing)):
        within = (shares.low <= value) & (value <= shares.high)
        same = within == ((interval.low <= 0) & (interval.high >= 0))
        assert given.sum() > 50 and 0.05 < within[given].mean() < 0.95 and same[given].all()


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
