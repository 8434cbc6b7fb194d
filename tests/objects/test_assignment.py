"""The one assignment of objects, against trying every assignment."""

import itertools

import numpy as np
import pytest

from stainda.objects.assignment import assign


def _best(worth, count_first):
    """By brute force: (number of pairs, total), or the total alone, of the best assignment of a table (n, m)."""
    n, m = worth.shape
    wide = np.zeros((n, n + m))
    wide[:, :m] = worth
    best = (0, 0.0) if count_first else 0.0
    for order in itertools.permutations(range(n + m), n):
        values = wide[np.arange(n), list(order)]
        total = round(float(values.sum()), 9)
        best = max(best, (int((values > 0).sum()), total) if count_first else total)
    return best


@pytest.mark.parametrize("seed", range(15))
def test_assignment_agrees_with_trying_every_assignment(seed):
    rng = np.random.default_rng(seed)
    n, m = (int(size) for size in rng.integers(1, 5, 2))
    worth = np.where(rng.random((n, m)) < 0.6, rng.uniform(0.1, 1, (n, m)), 0)
    rows, columns = np.nonzero(worth)
    shuffled = rng.permutation(len(rows))
    rows, columns = rows[shuffled], columns[shuffled]
    for most_pairs in (True, False):
        chosen = assign(rows, columns, worth[rows, columns], most_pairs=most_pairs)
        a, b = rows[chosen], columns[chosen]
        assert len(set(a)) == len(a) and len(set(b)) == len(b) and list(a) == sorted(a)
        total = round(float(worth[a, b].sum()), 9)
        assert ((len(a), total) if most_pairs else total) == _best(worth, most_pairs)


def test_more_pairs_or_more_worth_is_the_callers_choice():
    """Of three candidates, two pairs of 0.3 or one of 0.9."""
    rows, columns, worth = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.9, 0.3, 0.3])
    assert assign(rows, columns, worth).tolist() == [0]
    assert assign(rows, columns, worth, most_pairs=True).tolist() == [1, 2]


def test_names_of_rows_and_columns_are_any_numbers_and_nothing_gives_nothing():
    assert assign(np.array([700, 3]), np.array([10**9, 5]), np.array([0.2, 0.4])).tolist() == [1, 0]
    nothing = np.zeros(0, int)
    assert assign(nothing, nothing, np.zeros(0)).tolist() == []
