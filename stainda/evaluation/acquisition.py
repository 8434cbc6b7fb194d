"""Which regions to annotate next: scores of uncertainty, and choices that cover what is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stainda.arrays import Array

Method = Literal["random", "entropy", "disagreement", "core_set"]
METHODS: tuple[Method, ...] = ("random", "entropy", "disagreement", "core_set")


def entropy(probabilities: Array) -> NDArray[np.float64]:
    """Mean entropy of each patch's pixels in nats, float (n,).

    Args:
        probabilities: of the foreground classes, (n, k, h, w) or (n, k); background has the rest.
    """
    shares = np.asarray(probabilities, float)
    rest = np.clip(1 - shares.sum(1, keepdims=True), 0, 1)
    whole = np.concatenate([rest, shares], axis=1)
    bits = -(whole * np.log(np.clip(whole, 1e-12, 1))).sum(1)
    return bits.reshape(len(bits), -1).mean(1)


def disagreement(first: Array, second: Array, certainty: Array) -> NDArray[np.float64]:
    """Mean absolute difference of probabilities of the same places on two sections, float (n,).

    Args:
        first, second: (n, k, h, w), ``second`` warped onto ``first``.
        certainty: (n, h, w), weight of each place; a patch without any has 0.
    """
    away = np.abs(np.asarray(first, float) - np.asarray(second, float)).max(1)
    weight = np.asarray(certainty, float)
    total = weight.reshape(len(weight), -1).sum(1)
    weighted = (away * weight).reshape(len(weight), -1).sum(1)
    return np.divide(weighted, total, out=np.zeros(len(total)), where=total > 0)


def best(scores: Array, count: int, near: NDArray[np.bool_]) -> list[int]:
    """The highest scores, none of which is near another that is taken; ``near`` is bool (n, n)."""
    taken: list[int] = []
    for index in np.argsort(-np.asarray(scores, float), kind="stable").tolist():
        if len(taken) == count:
            break
        if not near[index, taken].any():
            taken.append(index)
    return taken


def k_centre(features: Array, count: int, covered: Array | None, near: NDArray[np.bool_]) -> list[int]:
    """k-centre greedy (Sener & Savarese 2018, arXiv 1708.00489): the point farthest from all that is covered, again and
    again.

    Args:
        features: (n, c). covered: (m, c), of what is annotated; without any the first is that nearest to the mean.
        near: bool (n, n): points that show the same place; only one of them is taken.
    """
    points = np.asarray(features, float)
    if covered is None or not len(covered):
        away = np.full(len(points), np.inf)
        order: Sequence[int] = [int(np.linalg.norm(points - points.mean(0), axis=1).argmin())]
    else:
        away = np.min([np.linalg.norm(points - centre, axis=1) for centre in np.asarray(covered, float)], axis=0)
        order = []
    taken: list[int] = []
    free = np.ones(len(points), bool)
    while len(taken) < count and free.any():
        index = order[0] if not taken and order else int(np.where(free, away, -1).argmax())
        taken.append(index)
        free &= ~near[index]
        free[index] = False
        away = np.minimum(away, np.linalg.norm(points - points[index], axis=1))
    return taken
