"""Which window of a patch's region a step of training sees: drawn anew for every patch of every batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from stainda.arrays import Array
from stainda.config import TaskConfig
from stainda.strategies import Strategy
from stainda.strategies.augment.base import Augment

REACH = 0.25
"""How far a window's middle lies from the patch's, at most, as a share of the patch: what a patch was chosen for (an
object in it) is then mostly still there. Patches themselves are shifted about objects by as much."""


@dataclass(frozen=True)
class Windows:
    """Squares of regions, of random size and at a random place.

    The side is ``size / f``: ``f`` between ``1 / (1 + scale)`` and ``1 + scale``, evenly on a log scale, for the share
    ``p`` of the patches, else 1. The middle is drawn evenly within what the region allows, at most ``reach`` patches
    from the patch's middle along each axis. A window larger than the region (a margin below ``scale / 2``) lies about
    the middle, and is mirrored there.

    Attributes:
        size: pixels of a patch. margin: pixels stored around it on each side.
        scale, p: of the strategy's geometry part.
        reach: largest shift, as a share of the patch.
    """

    size: int
    margin: int
    scale: float = 0.0
    p: float = 1.0
    reach: float = REACH

    @classmethod
    def of(cls, strategy: Strategy, task: TaskConfig, size: int, margin: int) -> Windows:
        """Those of a strategy: places for all, sizes where its augmentation changes them.

        A classification asks what lies in a square in the middle of a patch; windows move by a quarter of that square
        at most, for patches were drawn by their answer.
        """
        reach = REACH * task.centre if task.kind == "classification" else REACH
        place = _zooming(strategy)
        scale, p = (0.0, 1.0) if place is None else strategy.augment[place].zoom or (0.0, 1.0)
        return cls(size, margin, scale, p, reach)

    def draw(self, count: int, generator: torch.Generator) -> Array:
        """Windows of so many patches: int (count, 3), x, y and side in stored pixels; a CPU generator."""
        draws = torch.rand(count, 4, generator=generator, dtype=torch.float64).numpy()
        signed = np.where(draws[:, 0] < self.p, 2 * draws[:, 1] - 1, 0.0)
        side = np.maximum(1, np.round(self.size * np.exp(-signed * math.log1p(self.scale)))).astype(int)
        room = np.clip((self.size + 2 * self.margin - side) / 2, 0, self.reach * self.size)
        offset = (2 * draws[:, 2:] - 1) * room[:, None]
        corner = self.margin + (self.size - side)[:, None] / 2 + offset
        return np.concatenate([np.round(corner).astype(int), side[:, None]], axis=1)


def augments_after_cutting(strategy: Strategy) -> tuple[Augment, ...]:
    """What is left of a strategy's augmentation for patches that are windows: a size is not changed twice."""
    place = _zooming(strategy)
    return tuple(part.without_zoom() if index == place else part for index, part in enumerate(strategy.augment))


def _zooming(strategy: Strategy) -> int | None:
    return next((index for index, part in enumerate(strategy.augment) if part.zoom is not None), None)
