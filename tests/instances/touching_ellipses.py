"""Made label maps of objects that touch, and how well others agree with them."""

from __future__ import annotations

import numpy as np

SIZE = 96


def crowd(seed, size=SIZE, count=14):
    """Ellipses at random that touch and do not cover each other: each takes what is free, if that is most of it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    objects = np.zeros((size, size), np.int32)
    value = 0
    for _ in range(400):
        if value == count:
            break
        a, turn = rng.uniform(6, 10), rng.uniform(0, np.pi)
        b = a * rng.uniform(0.75, 1)
        row, column = rng.uniform(a, size - a, 2)
        u = (x - column) * np.cos(turn) + (y - row) * np.sin(turn)
        v = -(x - column) * np.sin(turn) + (y - row) * np.cos(turn)
        mine = (u / a) ** 2 + (v / b) ** 2 <= 1
        if (objects[mine] == 0).mean() > 0.93:
            value += 1
            objects[mine & (objects == 0)] = value
    return objects


def best_overlaps(first, second):
    """Of each object the largest IoU with one of the other map."""
    result = []
    for value in np.unique(first[first > 0]):
        mine = first == value
        others = np.unique(second[mine & (second > 0)])
        result.append(max(((mine & (second == o)).sum() / (mine | (second == o)).sum() for o in others), default=0.0))
    return np.array(result)
