r"""Whether a training had converged: was source validation still rising when it ended?

The mean of the last quarter of the epochs is compared with that of the quarter before. Noise from epoch to epoch is
estimated from second differences, :math:`\hat\sigma^2 = \mathrm{mean}(s_{i-1} - 2 s_i + s_{i+1})^2 / 6`, which a
steady slope leaves at 0. Still rising is a rise above :math:`t_{0.95} \hat\sigma \sqrt{2 / m}` (m epochs in a quarter)
and above :data:`LEAST_RISE`: noise about a plateau is called a rise in about one of twenty trainings, and in up to one
of four where it lasts for several epochs (a correlation of 0.5 from epoch to epoch).

A flat end says that this *schedule* has ended: with a falling learning rate every curve flattens. Whether more steps
would give more, only a training with more steps tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

LEAST_EPOCHS = 8
"""With fewer a quarter is one epoch, and noise cannot be distinguished from a rise."""

LEAST_RISE = 0.01
"""Less from quarter to quarter is no matter."""

CONVERGED, RISING, SHORT, NOTHING = "yes", "no", "too few epochs", "nothing learned"
"""``converged`` of a training."""

LEAST_SCORE = 0.05
"""A training whose best score is below has learned nothing yet, however flat it is."""


@dataclass(frozen=True)
class Convergence:
    """``state``: one of the four above; ``rise``: last quarter minus the one before; ``nan`` with too few epochs."""

    state: str
    rise: float


def judge_curve(scores: Sequence[float]) -> Convergence:
    """Judge the validation scores of all epochs of a training, in their order."""
    values = np.asarray(scores, float)
    n = len(values)
    if n < LEAST_EPOCHS:
        return Convergence(SHORT, float("nan"))
    m = n // 4
    late, before = values[-m:], values[-2 * m : -m]
    rise = float(late.mean() - before.mean())
    half = values[-(n // 2 + 2) :]
    second = half[:-2] - 2 * half[1:-1] + half[2:]
    noise = float(np.sqrt(np.mean(second**2) / 6))
    freedom = max(1.0, len(second) / 2)  # neighbouring second differences share two of three scores
    limit = float(special.stdtrit(freedom, 0.95)) * noise * np.sqrt(2 / m)
    if rise > max(limit, LEAST_RISE):
        return Convergence(RISING, rise)
    return Convergence(NOTHING if values.max() < LEAST_SCORE else CONVERGED, rise)


def rising_sentence(states: Sequence[tuple[str, str]]) -> str:
    """How many of some trainings, given as (strategy, state), were still rising; empty where none was."""
    rising = [strategy for strategy, state in states if state == RISING]
    if not rising:
        return ""
    names = list(dict.fromkeys(rising))
    listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return (
        f"source validation was still rising at the end of {len(rising)} of {len(states)} trainings ({listed}), so "
        "differences between strategies may be differences of speed"
    )
