"""Contours of objects as a second map (DCAN)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from stainda.arrays import Array
from stainda.instances.base import DenseHead, number, register
from stainda.instances.depths import depths, grow, seeds_of

if TYPE_CHECKING:
    from torch import Tensor


@register("contours")
class ContourHead(DenseHead):
    """The rim of every object as a map of its own; what is left of the foreground without it are the seeds.

    Target: 1 where a pixel of an object is at most ``width`` pixels from one that is not of it. Loss: cross-entropy of
    rim and no rim, plus their soft Dice (rims are few pixels). Objects: connected pieces of ``foreground and p(rim) <
    level`` are seeds; pixels of the rim go to the seed that is reached over the lowest rim (the paper dilates seeds).
    """

    reference: ClassVar[str] = "Chen et al. 2016, DCAN: Deep Contour-Aware Networks, CVPR, arXiv 1604.02677"

    width: float = Field(2.0, ge=1, description="of the rim inside of an object, pixels the network sees")
    level: float = Field(0.5, gt=0, lt=1, description="probability of the rim from which a pixel is no seed")
    least_seed: int = Field(4, ge=1, description="smaller seeds are none, pixels")

    @property
    def channels(self) -> int:
        return 1

    def targets(self, objects: Array) -> Array:
        depth = depths(number(objects))
        return ((depth > 0) & (depth <= self.width))[None].astype(np.float32)

    def loss(self, maps: Tensor, targets: Tensor, inside: Tensor, known: Tensor) -> Tensor:
        from torch.nn import functional

        each = functional.binary_cross_entropy_with_logits(maps.float(), targets, reduction="none")
        entropy = (each * known).sum() / known.sum().clamp(min=1)
        rim = maps.float().sigmoid() * known
        overlap, total = (rim * targets).sum(), rim.sum() + (targets * known).sum()
        return entropy + 1 - (2 * overlap + 1) / (total + 1)

    def activate(self, maps: Tensor) -> Tensor:
        return maps.float().sigmoid()

    def separate(self, inside: Array, maps: Array) -> Array:
        return grow(seeds_of(inside & (maps[0] < self.level), self.least_seed), maps[0], inside)
