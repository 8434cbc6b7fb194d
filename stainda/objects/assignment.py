"""One-to-one assignment of objects, solved exactly; used by the whole package."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Numbers = NDArray[np.int64]


def assign(rows: NDArray[Any], columns: NDArray[Any], worth: NDArray[Any], *, most_pairs: bool = False) -> Numbers:
    """Which candidate pairs to take, so that no row and no column is taken twice and the total worth is largest.

    The Hungarian method (Kuhn 1955), solved apart for every group of candidates that hang together, so that thousands
    of objects cost what their groups cost.

    Args:
        rows, columns: candidate pairs, int (n,), each pair once.
        worth: of each pair, float (n,), above 0; to stay alone is worth 0.
        most_pairs: take as many pairs as can be, and of those assignments the one of the largest total worth.

    Returns:
        Indices of the chosen candidates, int (k,), ordered by row.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    row_names, row = np.unique(rows, return_inverse=True)
    column_names, column = np.unique(columns, return_inverse=True)
    size = len(row_names) + len(column_names)
    graph = coo_matrix((np.ones(len(row), np.int8), (row, len(row_names) + column)), shape=(size, size))
    group = connected_components(graph, directed=False)[1][row]
    alone = np.bincount(group)[group] == 1  # nearly all of them: nothing to solve
    chosen = [np.flatnonzero(alone)]
    rest = np.flatnonzero(~alone)
    rest = rest[np.argsort(group[rest], kind="stable")]
    for members in np.split(rest, np.flatnonzero(np.diff(group[rest])) + 1) if len(rest) else ():
        own_rows, r = np.unique(row[members], return_inverse=True)
        own_columns, c = np.unique(column[members], return_inverse=True)
        table = np.zeros((len(own_rows), len(own_columns)))
        which = np.full(table.shape, -1)
        # with most_pairs, one more pair is worth more than any sum of worths up to 1 each
        table[r, c] = (len(members) + 1 if most_pairs else 0) + worth[members]
        which[r, c] = members
        best = which[linear_sum_assignment(table, maximize=True)]
        chosen.append(best[best >= 0])
    taken = np.concatenate(chosen)
    return taken[np.argsort(row[taken], kind="stable")].astype(np.int64)
