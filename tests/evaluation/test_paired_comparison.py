"""Paired tests against scipy, their level by simulation, and Holm by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stainda.evaluation import holm, sign_flip_test, wilcoxon_test
from stainda.evaluation.comparison import mean_ranks


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("n", [4, 8, 11])
def test_exact_sign_flips_agree_with_scipy(n):
    values = rng(n).normal(0.3, 1, n)
    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_test(values[:, None], rng()).p[0] == pytest.approx(theirs.pvalue)


def test_random_sign_flips_agree_with_all_of_them():
    values = rng(1).normal(0.35, 1, 18)
    ours = sign_flip_test(values[:, None], rng(), resamples=40_000).p[0]
    signs = 1 - 2 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1)
    exact = (np.abs(signs @ values) >= abs(values.sum()) - 1e-12).mean()
    assert ours == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize("n", [3, 6, 10, 13])
def test_wilcoxon_is_that_of_scipy(n):
    values = rng(n).normal(0.5, 1, n)
    assert wilcoxon_test(values[:, None], rng()).p[0] == pytest.approx(stats.wilcoxon(values).pvalue)
    tied = np.round(values, 0)[:, None]
    theirs = stats.wilcoxon(tied[:, 0], zero_method="pratt", method=stats.PermutationMethod(n_resamples=np.inf))
    assert wilcoxon_test(tied, rng()).p[0] == pytest.approx(theirs.pvalue)
    assert wilcoxon_test(np.zeros((n, 1)), rng()).p[0] == 1


def test_wilcoxon_of_many_patients_agrees_with_scipy():
    values = rng(2).normal(0.2, 1, 60)
    assert wilcoxon_test(values[:, None], rng()).p[0] == pytest.approx(stats.wilcoxon(values).pvalue, abs=0.01)


def test_ranks_share_ties_and_skip_missing_patients():
    values = np.array([[0.3, 1.0], [0.1, np.nan], [0.3, 0.5]])
    np.testing.assert_array_equal(mean_ranks(values), [[2.5, 2], [1, np.nan], [2.5, 1]])


def test_five_patients_can_never_reach_five_per_cent_and_the_result_says_so():
    found = sign_flip_test(np.full((5, 1), 0.2), rng())
    assert found.p[0] == found.smallest_p[0] == 2 / 32
    assert sign_flip_test(np.full((6, 1), 0.2), rng()).p[0] == 2 / 64


def test_one_patient_has_no_p_and_no_difference_has_p_one():
    assert np.isnan(sign_flip_test(np.array([[0.3]]), rng()).p[0])
    assert sign_flip_test(np.zeros((7, 1)), rng()).p[0] == 1
    gaps = sign_flip_test(np.array([[0.3, np.nan], [0.2, np.nan], [0.1, 0.5]]), rng())
    assert gaps.n.tolist() == [3, 1] and gaps.mean[1] == 0.5 and np.isnan(gaps.p[1])


def test_the_test_holds_its_level_and_has_power():
    scores = rng(5).standard_t(3, (8, 3000)) * 0.1
    level = (sign_flip_test(scores, rng()).p <= 0.05).mean()
    assert 0.03 <= level <= 0.06
    assert (sign_flip_test(scores + 0.3, rng()).p <= 0.05).mean() > 0.8


def test_holm_by_hand_and_monotone():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, np.nan, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert np.isnan(holm(np.array([np.nan]))).all()
