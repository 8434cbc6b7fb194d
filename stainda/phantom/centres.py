"""Differences between centres: laboratory (dyes, thickness) and scanner (light, optics, file)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array
from stainda.randomness import generator_for
from stainda.stains.table import Stain

_SCANNERS = ("scanner-1", "scanner-2", "scanner-3", "scanner-4")


@dataclass(frozen=True)
class Centre:
    """One centre.

    Attributes:
        mpp: micrometres per level-0 pixel.
        thickness: micrometres of a section.
        white: (3,) what an empty pixel shows, 0..1.
        gamma: of the scanner, 1 is linear.
        blur: standard deviation of the point spread, level-0 pixels.
        noise: standard deviation of the sensor noise, grey levels.
        jpeg: quality of the file, 1..100.
        strength: spread of dye strengths (natural log); hue: spread of dye vectors.
    """

    name: str
    scanner: str
    mpp: float
    thickness: float
    white: Array
    gamma: float
    blur: float
    noise: float
    jpeg: int
    strength: float
    hue: float


def make_centre(seed: int, name: str, index: int, mpp: float, thickness: float, difficulty: float) -> Centre:
    """The centre called ``name``, the ``index``-th of the cohort; the first one is the reference, the others stray."""
    if index == 0:
        white = np.array([0.962, 0.958, 0.956])
        return Centre(name, _SCANNERS[0], mpp, thickness, white, 1.0, 0.55, 1.2, 88, 0.0, 0.0)
    rng = generator_for(seed, "centre", name)
    side = rng.choice((-1, 1), 8)
    size = rng.uniform(0.5, 1.0, 8) * difficulty
    warm = 0.022 * side[0] * size[0]
    return Centre(
        name=name,
        scanner=_SCANNERS[index % len(_SCANNERS)],
        mpp=round(mpp * (1 + 0.08 * np.clip(side[1] * size[1], -2, 2)), 4),
        thickness=round(thickness * (1 + 0.22 * float(np.clip(side[2] * size[2], -1.5, 2))), 2),
        white=np.clip(np.array([0.95 + warm, 0.945, 0.94 - warm]), 0.6, 0.99),
        gamma=float(np.exp(0.16 * side[3] * size[3])),
        blur=float(0.55 + 0.45 * size[4]),
        noise=float(1.2 + 1.3 * size[5]),
        jpeg=int(np.clip(88 - 16 * size[6], 45, 95)),
        strength=0.26 * difficulty,
        hue=0.075 * difficulty,
    )


def dyes_at(stain: Stain, centre: Centre, seed: int, slide: str) -> tuple[Array, Array]:
    """The stain as this centre made it for this slide: vectors (dyes, 3), amounts (structures, dyes).

    The centre's hue and strength hold for all its slides; each slide strays a little from them.
    """
    shared = generator_for(seed, "dyes", centre.name, stain.name)
    own = generator_for(seed, "dyes", slide)
    number = len(stain.dyes)
    vectors = stain.vectors + centre.hue * shared.normal(0, 1, (number, 3))
    vectors += 0.006 * own.normal(0, 1, (number, 3))
    vectors = np.clip(vectors, 0.02, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strength = np.exp(
        centre.strength * np.clip(shared.normal(0, 1, number), -1.6, 1.6) + 0.07 * own.normal(0, 1, number)
    )
    return vectors, stain.amounts() * strength
