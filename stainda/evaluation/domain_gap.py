"""How far apart two domains are, before any label of the target is looked at.

Three views: the colours of tissue, what a network's features tell a linear classifier, and how alike the features of
the same tissue are in two stains.
"""

from __future__ import annotations

import numpy as np

from stainda.arrays import Array
from stainda.errors import StaindaError
from stainda.run_directory.result_tables import DOMAIN_GAP

GAP_COLUMNS = DOMAIN_GAP.names


def optical_density_distance(first: Array, second: Array) -> float:
    """Euclidean distance of the mean optical densities (per channel, ``-log10((I + 1) / 256)``) of two sets of pixels.

    Args:
        first, second: tissue pixels uint8 (n, 3).
    """
    means = [-np.log10((np.asarray(pixels, float) + 1) / 256).mean(axis=0) for pixels in (first, second)]
    return float(np.linalg.norm(means[0] - means[1]))


def lab_distance(first: Array, second: Array) -> float:
    """Mean over L*, a*, b* of the Wasserstein-1 distance of two sets of colours, in units of CIE Lab.

    Args:
        first, second: Lab values float (n, 3).
    """
    from scipy import stats  # slow to import

    return float(np.mean([stats.wasserstein_distance(first[:, c], second[:, c]) for c in range(3)]))


def proxy_a_distance(
    first: Array, second: Array, first_groups: Array, second_groups: Array, seed: int = 0, folds: int = 5
) -> tuple[float, str]:
    """``2 (1 - 2 e)`` with e the error of a linear classifier that tells two domains apart (Ben-David et al. 2007).

    0: it cannot; 2: it never fails. The error is cross-validated with all patches of a group (patient) on one side,
    balanced over the two domains; features are standardised on the training folds.

    Args:
        first, second: features float (n, d) and (m, d).
        first_groups, second_groups: patient of each row.

    Returns:
        The distance, and a note: empty, or why there is none (``nan``).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if first.shape[1:] != second.shape[1:]:
        raise StaindaError(f"features of two domains differ in shape: {first.shape[1:]} and {second.shape[1:]}")
    few = min(len(np.unique(first_groups)), len(np.unique(second_groups)))
    if few < 2:
        return float("nan"), "one patient in a domain: a patient could not be distinguished from a domain"
    x = np.concatenate([first, second])
    y = np.repeat([0, 1], [len(first), len(second)])
    groups = np.concatenate([np.asarray(first_groups).astype(str), np.asarray(second_groups).astype(str)])
    guessed = np.full(len(y), -1)
    splitter = StratifiedGroupKFold(min(folds, few), shuffle=True, random_state=seed)
    for train, test in splitter.split(x, y, groups):
        if len(np.unique(y[train])) == 2:
            classifier = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
            )
            guessed[test] = classifier.fit(x[train], y[train]).predict(x[test])
    seen = guessed >= 0
    if len(np.unique(y[seen])) < 2:
        return float("nan"), "too few patients to cross-validate"
    error = 1 - balanced_accuracy_score(y[seen], guessed[seen])
    return float(2 * (1 - 2 * min(error, 0.5))), ""


def linear_cka(first: Array, second: Array) -> float:
    """Linear centred kernel alignment of features of the same n things (Kornblith et al. 2019, eq. 4): 0 to 1.

    Args:
        first, second: features float (n, d) and (n, e), row ``i`` of both from the same tissue.

    Returns:
        1 for features equal up to rotation and scale; ``nan`` with fewer than three rows or constant features.
    """
    if len(first) != len(second):
        raise StaindaError(f"CKA compares the same things, found {len(first)} and {len(second)} rows")
    if len(first) < 3:
        return float("nan")
    x, y = (np.asarray(features, float) - np.mean(features, axis=0) for features in (first, second))
    shared = np.linalg.norm(x.T @ y) ** 2
    own = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(shared / own) if own > 0 else float("nan")
