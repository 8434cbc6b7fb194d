"""What of the learning rate is used at a step, and what of an average of weights stays there."""

from __future__ import annotations

import math

WARM_UP, START = 0.1, 0.04
"""Of ``one_cycle``: share of the steps in which the rate rises, and the share of the rate it rises from."""


def rate_factor(schedule: str, share: float) -> float:
    """Share of the learning rate that holds when this share of the steps was taken."""
    if schedule == "constant":
        return 1.0
    if schedule == "one_cycle" and share < WARM_UP:
        return START + (1 - START) * 0.5 * (1 - math.cos(math.pi * share / WARM_UP))
    if schedule == "one_cycle":
        return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share))


def averaging_share(keep: float, step: int) -> float:
    """What of the average of the weights stays at step t (from 0): ``min(keep, (1 + t) / (10 + t))``, so that the start
    is soon forgotten."""
    return min(keep, (1 + step) / (10 + step))
