"""Mean ranks, which pairs differ, and effect sizes by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stainda.config import EvaluationConfig
from stainda.evaluation import difference, holm
from stainda.evaluation.ranking import Ranking, effect_sizes, rank_strategies

SETTINGS = EvaluationConfig()


def test_the_best_has_rank_one_and_groups_join_what_was_not_shown_to_differ():
    rng = np.random.default_rng(2)
    runs = list(np.array([0.9, 0.5, 0.899, 0.2])[:, None, None] + rng.normal(0, 0.02, (4, 3, 30)))
    found = rank_strategies(runs, 1, SETTINGS)
    assert np.argmin(found.ranks) in (0, 2) and found.ranks[3] == 4
    assert [set(group) for group in found.groups()] == [{0, 2}]
    assert found.pairwise[0, 3] < 0.001 < found.pairwise[0, 2]
    turned = rank_strategies(runs, -1, SETTINGS)
    assert turned.ranks == pytest.approx(5 - found.ranks), "a distance: the lowest is best"


def test_pairs_are_the_tests_over_patients_and_trainings_with_holms_correction():
    rng = np.random.default_rng(5)
    runs = [rng.normal(mean, 0.05, (3, 9)) for mean in (0.5, 0.55, 0.62)]
    found = rank_strategies(runs, 1, SETTINGS)
    p = [difference(runs[a][..., None], runs[b][..., None], SETTINGS).p[0] for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found.pairwise[np.triu_indices(3, 1)] == pytest.approx(holm(np.array(p)))
    assert (np.diag(found.pairwise) == 1).all() and np.array_equal(found.pairwise, found.pairwise.T)


def test_a_group_ends_where_any_of_its_members_differ():
    level = 0.95
    ranks = np.array([1.0, 2.0, 3.0])
    pairwise = np.array([[1, 0.5, 0.01], [0.5, 1, 0.5], [0.01, 0.5, 1]])
    assert Ranking(ranks, pairwise, 9, level, "").groups() == [[0, 1], [1, 2]]


def test_ranking_of_few_is_no_test_and_incomplete_patients_are_told():
    alone = rank_strategies([np.array([[0.2]]), np.array([[0.4]])], 1, SETTINGS)
    assert np.isnan(alone.ranks).all() and "one patient" in alone.note and alone.n == 1
    runs = list(np.random.default_rng(3).random((3, 2, 12)))
    runs[1][1, 0] = np.nan
    found = rank_strategies(runs, 1, SETTINGS)
    assert found.n == 11 and "1 patients without a score" in found.note and found.tested
    few = rank_strategies([run[:, 1:6] for run in runs], 1, SETTINGS)
    assert few.n == 5 and not few.tested and "5 patients: nothing is tested" in few.note
    once = rank_strategies([run[:1, 1:] for run in runs], 1, SETTINGS)
    assert not once.tested and "one training" in once.note and np.isfinite(once.ranks).all()


def test_effect_sizes_by_hand():
    found = effect_sizes(np.array([[0.1, 0.2, 0.0, np.nan], [0.2, 0.2, 0.0, np.nan], [-0.1, 0.2, 0.0, 0.4]]))
    spread = np.std([0.1, 0.2, -0.1], ddof=1)
    exact = 1 / np.sqrt(np.pi)  # gamma(1) / (sqrt(2 / 2) gamma(1 / 2)): Hedges at two degrees of freedom
    assert found.standardised[0] == pytest.approx(exact * (0.2 / 3) / spread)
    assert found.rank_biserial[0] == pytest.approx((1.5 + 3 - 1.5) / 6)
    assert found.share_higher.tolist()[:3] == pytest.approx([2 / 3, 1.0, 0.5])
    assert found.standardised[1] == np.inf and found.standardised[2] == 0 and np.isnan(found.standardised[3])
