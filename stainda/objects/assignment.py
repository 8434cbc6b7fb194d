"""One-to-one assignment of objects, solved exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def best_pairs(
    rows: Numbers, columns: Numbers, worth: NDArray[np.float64]
) -> tuple[Numbers, Numbers, NDArray[np.float64]]:
    """One-to-one pairs of the largest total worth (the Hungarian method, per connected group of candidates).

    Args:
        rows, columns: candidate pairs (n,), each pair once. worth: (n,), above 0; to stay alone is worth 0.

    Returns:
        Rows, columns and worths of the chosen pairs, ordered by row.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    n_rows, n_columns = int(rows.max()) + 1, int(columns.max()) + 1
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, n_rows + columns)), shape=(n_rows + n_columns,) * 2)
    group = connected_components(graph, directed=False)[1][rows]
    alone = np.bincount(group)[group] == 1  # nearly all of them: nothing to solve
    chosen = [np.flatnonzero(alone)]
    rest = np.flatnonzero(~alone)
    rest = rest[np.argsort(group[rest], kind="stable")]
    for members in np.split(rest, np.flatnonzero(np.diff(group[rest])) + 1) if len(rest) else ():
        own_rows, r = np.unique(rows[members], return_inverse=True)
        own_columns, c = np.unique(columns[members], return_inverse=True)
        table = np.zeros((len(own_rows), len(own_columns)))
        which = np.full(table.shape, -1)
        table[r, c], which[r, c] = worth[members], members
        best = which[linear_sum_assignment(table, maximize=True)]
        chosen.append(best[best >= 0])
    taken = np.concatenate(chosen)
    taken = taken[np.argsort(rows[taken], kind="stable")]
    return rows[taken].astype(np.int64), columns[taken].astype(np.int64), worth[taken]
