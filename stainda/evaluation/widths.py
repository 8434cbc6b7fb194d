r"""From variances over patients and over trainings to half widths of intervals, and p.

With the variance of the mean over patients :math:`v_P` (P of them), over the trainings of the strategies :math:`v_T`,
and that of what belongs to neither (patient × training) :math:`v_R`, which is in both and counts once:

.. math::
    V = \max(v_P + (v_T - v_R)_+,\; v_T), \qquad
    h = \tfrac{1}{2} \left( t_\nu \sqrt V + \sqrt{t_{P-1}^2 v_P + t_\omega^2 (v_T - v_R)_+} \right)

The first half is Student's t with Satterthwaite's (1946) degrees of freedom :math:`\nu`, the second gives each part
its own quantile (Howe 1974), with Welch's degrees of freedom :math:`\omega` of the trainings. Alone, the first is too
narrow where few trainings vary much more in one strategy than in the other (level up to 10 %), the second too wide
where they vary alike. With two trainings of a strategy the second alone is taken: intervals are wide then, as little is
known.
``benchmarks/interval_coverage.py`` holds what that keeps of its promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
LEAST_TAIL = 1e-100
"""Smaller tails are not distinguished; their quantiles with one degree of freedom could not be squared."""


@dataclass(frozen=True)
class Spread:
    """What a mean, or a difference of means, varies by; arrays (k,).

    Attributes:
        people: variance of the mean over patients.
        runs: of the mean over the trainings of each strategy, (strategies, k).
        rest: of what belongs to neither; it is in ``people`` and in ``runs``.
        n: patients.
        sizes: trainings of each strategy.
    """

    people: Floats
    runs: Floats
    rest: Floats
    n: npt.NDArray[np.int64]
    sizes: tuple[int, ...]

    def where(self, columns: npt.NDArray[np.bool_]) -> Spread:
        """Some of the columns."""
        return Spread(self.people[columns], self.runs[:, columns], self.rest[columns], self.n[columns], self.sizes)

    @property
    def net(self) -> Floats:
        """Variance over trainings without the rest."""
        return np.asarray(np.maximum(self.runs.sum(axis=0) - self.rest, 0.0))

    @property
    def variance(self) -> Floats:
        """Of the mean over patients and trainings; never less than either alone."""
        return np.asarray(np.maximum(self.people + self.net, self.runs.sum(axis=0)))

    @property
    def freedom(self) -> Floats:
        """Satterthwaite's degrees of freedom of ``variance``."""
        return _satterthwaite([self.people, *self.runs], [self._of_people, *self._of_runs])

    @property
    def freedom_of_trainings(self) -> Floats:
        """Welch's, of the variance over trainings."""
        return _satterthwaite([*self.runs], self._of_runs)

    @property
    def _of_people(self) -> Floats:
        return np.maximum(self.n - 1.0, 1.0)

    @property
    def _of_runs(self) -> list[float]:
        return [max(size - 1.0, 1.0) for size in self.sizes]

    def half_width(self, tail: float | Floats) -> Floats:
        """Half width of the interval that leaves ``tail`` on either side."""
        whole = special.stdtrit(self.freedom, tail) * np.sqrt(self.variance)
        people = special.stdtrit(self._of_people, tail) ** 2 * self.people
        trainings = special.stdtrit(self.freedom_of_trainings, tail) ** 2 * self.net
        share = 0.5 if min(self.sizes) > 2 else 0.0
        return np.asarray(share * np.abs(whole) + (1 - share) * np.sqrt(people + trainings))

    def p_of(self, mean: Floats) -> Floats:
        """Two-sided p that the mean is 0: twice the tail whose half width just reaches it.

        Without any spread the least p of n patients' signs: no distribution says more.
        """
        away = np.abs(mean)
        spread = self.variance > 1e-18 * np.maximum(mean**2, 1e-12)
        p = np.where(away > 1e-12, 2.0 ** (1.0 - self.n), 1.0)
        known = spread & (away > 0)
        if known.any():
            p[known] = 2 * self.where(known)._tail_of(away[known])
        return p

    def _tail_of(self, away: Floats) -> Floats:
        """The tail whose half width is ``away``, by the Illinois method on logarithms."""
        few = np.minimum(self._of_people, self.freedom_of_trainings)
        many = np.maximum(self._of_people, self.freedom_of_trainings)
        first = special.stdtr(self.freedom, -away / np.sqrt(self.variance))
        apart = np.sqrt(self.people + self.net)
        steps = np.divide(-away, apart, out=np.full_like(away, -np.inf), where=apart > 0)
        # each half of the width has its own tail; that of their mean lies between
        ends = [
            np.log(np.maximum(tail, LEAST_TAIL))
            for tail in (first, special.stdtr(few, steps), special.stdtr(many, steps))
        ]
        low, high = np.min(ends, axis=0), np.max(ends, axis=0)

        def over(log_tail: Floats) -> Floats:
            return np.log(np.maximum(self.half_width(np.exp(log_tail)), 1e-300) / away)

        at_low, at_high, side = over(low), over(high), np.zeros(len(away))
        middle = low
        for _ in range(8):
            gap = at_low - at_high
            share = np.divide(at_low, gap, out=np.zeros_like(gap), where=gap > 1e-14)
            middle = low + (high - low) * np.clip(share, 0.0, 1.0)
            result = over(middle)
            below = result > 0  # too wide: the answer is a larger tail
            at_high = np.where(below, at_high * np.where(side > 0, 0.5, 1.0), result)
            at_low = np.where(below, result, at_low * np.where(side < 0, 0.5, 1.0))
            low, high = np.where(below, middle, low), np.where(below, high, middle)
            side = np.where(below, 1.0, -1.0)
        return np.exp(middle)


def _satterthwaite(parts: Sequence[Floats], freedom: Sequence[Floats | float]) -> Floats:
    """Degrees of freedom of a sum of variances; 1 where there is none."""
    total = np.sum(parts, axis=0)
    squares = np.sum([part**2 / of for part, of in zip(parts, freedom, strict=True)], axis=0)
    return np.asarray(np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0))
