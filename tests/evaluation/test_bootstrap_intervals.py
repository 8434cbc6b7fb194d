"""Bootstrap intervals against scipy, by simulation, and where nothing can be said."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from stainda.evaluation import dice, intervals, nested_interval, resampling_weights, weighted_means
from stainda.evaluation.bootstrap import percentile_interval, quantile_interval


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
def test_interval_agrees_with_scipy(method, theirs):
    scores = rng(3).beta(8, 2, 25)
    ours = intervals(scores[:, None], rng(1), resamples=20_000, method=method)
    other = stats.bootstrap((scores,), np.mean, n_resamples=20_000, method=theirs, rng=rng(2)).confidence_interval
    assert ours.mean[0] == pytest.approx(scores.mean())
    assert (ours.low[0], ours.high[0]) == pytest.approx((other.low, other.high), abs=1.5e-3)


def test_the_expanded_interval_is_wider_and_approaches_students_interval():
    scores = rng(0).normal(0.8, 0.05, 8)[:, None]
    plain, wide = (intervals(scores, rng(1), resamples=40_000, method=name) for name in ("percentile", "expanded"))
    student = stats.t.interval(0.95, 7, scores.mean(), stats.sem(scores[:, 0]))
    assert wide.low[0] < plain.low[0] and wide.high[0] > plain.high[0]
    assert (wide.low[0], wide.high[0]) == pytest.approx(student, abs=0.006)


@pytest.mark.parametrize(
    ("method", "n", "low", "high"),
    [
        ("expanded", 6, 0.90, 0.985),
        ("expanded", 12, 0.925, 0.97),
        ("bca", 30, 0.92, 0.97),
        ("percentile", 30, 0.92, 0.97),
    ],
)
def test_coverage_of_skewed_scores_is_close_to_nominal(method, n, low, high):
    scores = rng(7).beta(6, 2, (n, 1500))  # every column a study of n patients
    found = intervals(scores, rng(8), resamples=800, method=method)
    coverage = ((found.low <= 0.75) & (found.high >= 0.75)).mean()
    assert low <= coverage <= high


def test_one_patient_gives_no_interval_and_says_so():
    found = intervals(np.array([[0.7, np.nan]]), rng())
    assert found.mean[0] == 0.7 and np.isnan(found.low).all() and np.isnan(found.high).all()
    assert found.notes == ("one patient: no interval", "no patient with a score")
    assert "too narrow" in intervals(np.array([[0.7], [0.8]]), rng()).notes[0]
    assert intervals(np.linspace(0, 1, 8)[:, None], rng()).notes[0] == ""


@pytest.mark.parametrize("method", ["percentile", "expanded", "bca"])
def test_equal_patients_give_an_interval_of_no_width(method):
    found = intervals(np.full((7, 1), 0.5), rng(), method=method)
    assert found.low[0] == pytest.approx(0.5) and found.high[0] == pytest.approx(0.5)


def test_a_patient_without_a_score_changes_nothing():
    scores = rng(2).random((9, 1))
    with_gap = np.vstack([scores, [[np.nan]]])
    one, other = intervals(scores, rng(5)), intervals(with_gap, rng(5))
    assert (one.low[0], one.high[0], one.n[0]) == (other.low[0], other.high[0], other.n[0])


def test_weights_count_draws_and_keep_strata():
    weights = resampling_weights(10, 300, rng(), strata=["A"] * 4 + ["B"] * 6)
    assert (weights[:, :4].sum(axis=1) == 4).all() and (weights[:, 4:].sum(axis=1) == 6).all()
    assert weights.mean() == pytest.approx(1) and (weights.sum(axis=1) == 10).all()
    assert np.isnan(weighted_means(np.array([[np.nan], [1.0]]), np.array([[2.0, 0.0]]))[0, 0])


def test_nested_draws_of_patients_with_one_slide_are_the_plain_bootstrap():
    scores = rng(1).uniform(0.5, 1, 12)
    counts = [np.array([[100 * s, 100 * (1 - s), 100 * (1 - s)]]) for s in scores]
    mean, low, high = nested_interval(counts, dice, rng(2), resamples=20_000)
    plain = intervals(scores[:, None], rng(3), resamples=20_000)
    assert (mean, low, high) == pytest.approx((plain.mean[0], plain.low[0], plain.high[0]), abs=3e-3)


def test_nested_draws_add_the_variation_between_slides_and_weigh_slides_by_their_counts():
    counts = [np.array([[90, 10, 10], [1, 9, 9]]), np.array([[90, 10, 10], [1, 9, 9]])]
    mean, low, high = nested_interval(counts, dice, rng(0))
    assert mean == pytest.approx(2 * 91 / (2 * 91 + 19 + 19)), "micro within the patient"
    assert low == pytest.approx(0.1) and high == pytest.approx(0.9), "patients alone would give no width"


def test_a_thousand_resamples_of_a_large_study_take_a_blink():
    scores = rng().random((50, 10 * 10))
    start = time.perf_counter()
    intervals(scores, rng(), resamples=1000)
    assert time.perf_counter() - start < 0.2


@pytest.mark.parametrize("n", [6, 9, 40])
def test_the_expanded_interval_is_read_at_hesterbergs_level(n):
    resampled = np.linspace(0, 1, 100_001)[:, None]  # a quantile is its own level
    low, high = quantile_interval(resampled, np.zeros((n, 1)), 0.95, "expanded")
    level = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    assert low[0] == pytest.approx(level, rel=1e-6) and high[0] == pytest.approx(1 - level, rel=1e-6)


def test_the_bias_correction_by_hand():
    scores = np.array([0.1, 0.2, 0.3, 0.9])[:, None]
    resampled = np.linspace(0, 1, 10_001)[:, None]
    low, _ = quantile_interval(resampled, scores, 0.95, "bca")
    gap = -(((scores.sum() - scores[:, 0]) / 3) - ((scores.sum() - scores[:, 0]) / 3).mean())
    acceleration = (gap**3).sum() / (6 * (gap**2).sum() ** 1.5)
    bias = stats.norm.ppf((resampled < scores.mean()).mean() + 0.5 * (resampled == scores.mean()).mean())
    z = bias + stats.norm.ppf(0.025)
    assert low[0] == pytest.approx(stats.norm.cdf(bias + z / (1 - acceleration * z)), abs=1e-6)


def test_percentiles_leave_out_what_is_not_defined(recwarn):
    resampled = np.array([[1.0, np.nan, 5.0], [2.0, np.nan, np.nan], [3.0, np.nan, 7.0]])
    low, high = percentile_interval(resampled, 0.5)
    assert low == pytest.approx([1.5, np.nan, 5.5], nan_ok=True)
    assert high == pytest.approx([2.5, np.nan, 6.5], nan_ok=True)
    assert not recwarn.list
