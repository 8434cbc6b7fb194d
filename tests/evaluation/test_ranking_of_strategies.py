"""Ranks against scipy, Nemenyi against Demšar's published table, effect sizes by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stainda.evaluation.ranking import effect_sizes, rank_strategies


def test_friedman_agrees_with_scipy_also_with_ties():
    rng = np.random.default_rng(0)
    for scores in (rng.random((12, 5)), np.round(rng.random((12, 4)), 1)):
        theirs = stats.friedmanchisquare(*scores.T)
        assert rank_strategies(scores).p == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_difference_is_that_of_demsars_table(k, q):
    """Table 5 (a) of Demšar 2006, at 0.05; the critical difference is q sqrt(k (k + 1) / (6 n))."""
    found = rank_strategies(np.random.default_rng(1).random((14, k)))
    assert found.critical_difference == pytest.approx(q * np.sqrt(k * (k + 1) / (6 * 14)), abs=2e-3)


def test_the_best_has_rank_one_and_groups_join_what_was_not_shown_to_differ():
    rng = np.random.default_rng(2)
    scores = np.array([0.9, 0.5, 0.89, 0.2]) + rng.normal(0, 0.02, (30, 4))
    found = rank_strategies(scores)
    assert np.argmin(found.ranks) in (0, 2) and found.ranks[3] == 4
    assert [set(group) for group in found.groups()] == [{0, 2}]
    assert found.pairwise[0, 3] < 0.001 < found.pairwise[0, 2]


def test_ranking_of_one_patient_is_refused_and_incomplete_patients_are_told():
    assert np.isnan(rank_strategies(np.array([[0.2, 0.4]])).p)
    assert "one patient" in rank_strategies(np.array([[0.2, 0.4]])).note
    scores = np.random.default_rng(3).random((12, 3))
    scores[0, 1] = np.nan
    found = rank_strategies(scores)
    assert found.n == 11 and "1 patients without a score" in found.note
    assert rank_strategies(np.full((5, 3), 0.5)).p == 1


def test_effect_sizes_by_hand():
    found = effect_sizes(np.array([[0.1, 0.2, 0.0, np.nan], [0.2, 0.2, 0.0, np.nan], [-0.1, 0.2, 0.0, 0.4]]))
    spread = np.std([0.1, 0.2, -0.1], ddof=1)
    exact = 1 / np.sqrt(np.pi)  # gamma(1) / (sqrt(2 / 2) gamma(1 / 2)): Hedges at two degrees of freedom
    assert found.standardised[0] == pytest.approx(exact * (0.2 / 3) / spread)
    assert found.rank_biserial[0] == pytest.approx((1.5 + 3 - 1.5) / 6)
    assert found.share_higher.tolist()[:3] == pytest.approx([2 / 3, 1.0, 0.5])
    assert found.standardised[1] == np.inf and found.standardised[2] == 0 and np.isnan(found.standardised[3])
