"""Ranks and Holm's correction by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stainda.evaluation import holm
from stainda.evaluation.comparison import mean_ranks


def test_ranks_share_ties_and_leave_out_what_is_undefined():
    ranks = mean_ranks(np.array([[0.3], [0.1], [0.3], [np.nan]]))
    assert ranks[:3, 0].tolist() == [2.5, 1.0, 2.5] and np.isnan(ranks[3, 0])


def test_holm_by_hand():
    found = holm(np.array([0.01, 0.04, np.nan, 0.03]))
    assert found[[0, 1, 3]] == pytest.approx([0.03, 0.06, 0.06]) and np.isnan(found[2])
    assert holm(np.array([0.6, 0.9])).tolist() == [1.0, 1.0]
    assert np.isnan(holm(np.array([np.nan]))).all()
