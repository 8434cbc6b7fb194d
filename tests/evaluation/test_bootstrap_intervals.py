"""Bootstrap intervals against scipy, by simulation, and where nothing is defined."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stainda.evaluation import percentile_interval, resampling_weights, weighted_means
from stainda.evaluation.bootstrap import expanded_interval


def rng(seed=0):
    return np.random.default_rng(seed)


def resampled(scores, resamples=40_000):
    """Means of resampled patients (r, k) of scores (n, k)."""
    return weighted_means(scores, resampling_weights(len(scores), resamples, rng(1)))


def test_the_percentile_interval_agrees_with_scipy():
    scores = rng(3).beta(8, 2, 25)
    low, high = percentile_interval(resampled(scores[:, None]), 0.95)
    theirs = stats.bootstrap((scores,), np.mean, n_resamples=20_000, method="percentile", rng=rng(2))
    other = theirs.confidence_interval
    assert (low[0], high[0]) == pytest.approx((other.low, other.high), abs=1.5e-3)


def test_the_expanded_interval_is_wider_and_approaches_students_interval():
    means = resampled(rng(0).normal(0.8, 0.05, 8)[:, None])
    plain, wide = percentile_interval(means, 0.95), expanded_interval(means, 8, 0.95)
    scores = rng(0).normal(0.8, 0.05, 8)
    student = stats.t.interval(0.95, 7, scores.mean(), stats.sem(scores))
    assert wide[0][0] < plain[0][0] and wide[1][0] > plain[1][0]
    assert (wide[0][0], wide[1][0]) == pytest.approx(student, abs=0.006)


@pytest.mark.parametrize(("n", "low", "high"), [(6, 0.90, 0.985), (12, 0.925, 0.97)])
def test_coverage_of_skewed_scores_is_close_to_nominal(n, low, high):
    scores = rng(7).beta(6, 2, (n, 1500))  # every column a study of n patients
    ends = expanded_interval(resampled(scores, 800), n, 0.95)
    assert low <= ((ends[0] <= 0.75) & (ends[1] >= 0.75)).mean() <= high


def test_weights_count_draws_and_keep_strata():
    weights = resampling_weights(10, 300, rng(), strata=["A"] * 4 + ["B"] * 6)
    assert (weights[:, :4].sum(axis=1) == 4).all() and (weights[:, 4:].sum(axis=1) == 6).all()
    assert weights.mean() == pytest.approx(1) and (weights.sum(axis=1) == 10).all()
    assert np.isnan(weighted_means(np.array([[np.nan], [1.0]]), np.array([[2.0, 0.0]]))[0, 0])


@pytest.mark.parametrize("n", [6, 9, 40])
def test_the_expanded_interval_is_read_at_hesterbergs_level(n):
    low, high = expanded_interval(np.linspace(0, 1, 100_001), n, 0.95)  # a quantile is its own level
    level = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    assert low == pytest.approx(level, rel=1e-6) and high == pytest.approx(1 - level, rel=1e-6)


def test_percentiles_leave_out_what_is_not_defined(recwarn):
    values = np.array([[1.0, np.nan, 5.0], [2.0, np.nan, np.nan], [3.0, np.nan, 7.0]])
    low, high = percentile_interval(values, 0.5)
    assert low == pytest.approx([1.5, np.nan, 5.5], nan_ok=True)
    assert high == pytest.approx([2.5, np.nan, 6.5], nan_ok=True)
    assert not recwarn.list
