r"""Volumes of structures from their profiles in parallel sections (Cavalieri), with the error of the estimate.

:math:`V = T \sum_i A_i` with the distance T of the sections and the profile areas :math:`A_i`. The variance of the sum
by systematic sampling is estimated by

.. math:: \mathrm{Var} = \alpha\,(3 A - 4 B + C), \quad A = \sum A_i^2,\; B = \sum A_i A_{i+1},\; C = \sum A_i A_{i+2}

with :math:`\alpha = 1/240` for bodies whose profile areas change smoothly (H. J. G. Gundersen, E. B. V. Jensen, K.
Kiêu and J. Nielsen, J. Microsc. 193, 1999). A body is whole only where the sections before its first profile and
after its last one are there and do not show it, and these profiles are as small as last ones are; else the sum is a
lower bound. A section between two profiles that lacks one has missed it, and is bridged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array

SMOOTH = 1 / 240
LAST = 1.5
"""How much larger than a sphere's the last profile of a body may be."""


@dataclass(frozen=True)
class Volume:
    """A volume in µm³, its coefficient of error (``nan`` with one profile), and whether the body is whole."""

    um3: float
    error: float
    whole: bool
    profiles: int


def cavalieri(areas_um2: Mapping[float, float], shown: Mapping[float, bool], spacing_um: float) -> Volume:
    """Volume of one structure.

    Args:
        areas_um2: area of its profile by the number of the section in the cut; sections without it are left out.
        shown: for every section of the block that was placed, whether its tissue shows the place.
        spacing_um: from one section number to the next.
    """
    if areas_um2:
        low, high = min(areas_um2), max(areas_um2)
        # a body does not vanish and come back: a section between its profiles has missed it, and is bridged
        shown = {number: seen for number, seen in shown.items() if number in areas_um2 or not low < number < high}
    numbers = sorted(shown)
    if not areas_um2 or not numbers:
        return Volume(float("nan"), float("nan"), whole=False, profiles=0)
    place = np.array(numbers, float)
    area = np.array([areas_um2.get(number, 0.0) for number in numbers])
    first, last = (np.flatnonzero(area > 0)[k] for k in (0, -1))
    before, after = first - 1, last + 1
    whole = before >= 0 and after < len(numbers) and shown[numbers[before]] and shown[numbers[after]]
    if whole:
        gaps = (place[first] - place[before]) * spacing_um, (place[after] - place[last]) * spacing_um
        whole = all(_can_be_last(area[k], area.max(), gap) for k, gap in zip((first, last), gaps, strict=True))
    # each profile stands for half the way to its neighbours: of equal distances this is T times the sum
    ends = np.concatenate([[place[0] - _step(place, 0)], place, [place[-1] + _step(place, -1)]])
    stands_for = (ends[2:] - ends[:-2]) / 2 * spacing_um
    um3 = float((area * stands_for).sum())
    inner = area[first : last + 1]
    error = float("nan")
    if len(inner) > 1:
        a, b, c = (float((inner[lag:] * inner[: len(inner) - lag]).sum()) for lag in (0, 1, 2))
        error = float(np.sqrt(max(SMOOTH * (3 * a - 4 * b + c), 0.0)) / inner.sum())
    return Volume(um3, error, bool(whole), int((area > 0).sum()))


def _can_be_last(area: float, largest: float, gap_um: float) -> bool:
    """Whether a body can have ended within ``gap_um`` of a profile; a sphere of the largest profile is the measure. A
    larger profile with nothing behind it means that the next one was missed."""
    radius = np.sqrt(largest / np.pi)
    return bool(area <= LAST * largest * (1 - (1 - min(gap_um / radius, 1.0)) ** 2))


def _step(place: Array, side: int) -> float:
    if len(place) < 2:
        return 1.0
    return float(place[1] - place[0] if side == 0 else place[-1] - place[-2])
