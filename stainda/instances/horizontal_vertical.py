"""Horizontal and vertical distances to the middle of an object (HoVer-Net)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from stainda.arrays import Array
from stainda.instances.base import DenseHead, number, register
from stainda.instances.depths import grow, seeds_of

if TYPE_CHECKING:
    from torch import Tensor


@register("horizontal_vertical")
class HorizontalVerticalHead(DenseHead):
    """Where a pixel lies in its object from left to right and from top to bottom; objects end where both maps jump.

    Target: x (and y) from the object's centre of mass, divided by the object's reach on that side: from -1 at its left
    end over 0 to 1 at its right; 0 outside. The authors' code rounds the centre to a whole pixel; here it is exact, as
    in MONAI's. Loss: mean squared error of the maps, plus twice that of their slopes within objects (the paper's
    weights); a slope is a difference of two pixels, both of which must be known. Objects: within an object both maps
    rise, and across a border of two that touch one falls from 1 to -1. The larger of the two falls (by derivatives of
    a Gaussian, as a share of such a step) is the edge; foreground where neither map falls is the seeds, and a watershed
    on the edges gives the rest. The paper takes Sobel filters of 21 pixels (about σ 2.2), cuts them at 0.4 of their
    range in a tile, and opens the markers; whether a map falls at all depends neither on the tile nor on how faint the
    maps still are.
    """

    reference: ClassVar[str] = (
        "Graham et al. 2019, HoVer-Net: Simultaneous Segmentation and Classification of Nuclei, Medical Image Analysis "
        "58:101563, arXiv 1812.06499"
    )
    turns: ClassVar[bool] = True

    smoothing: float = Field(
        1.5, gt=0, description="σ of the derivative, pixels the network sees; noisy maps of large objects bear more"
    )
    edge: float = Field(0.0, ge=0, lt=1, description="share of a fall from 1 to -1 above which a pixel is no seed")
    least_seed: int = Field(4, ge=1, description="smaller seeds are none, pixels")
    slope_weight: float = Field(2.0, ge=0, description="of the loss of slopes")

    @property
    def channels(self) -> int:
        return 2

    def targets(self, objects: Array) -> Array:
        from scipy import ndimage

        numbers = number(objects)
        out = np.zeros((2, *numbers.shape), np.float32)
        for value, where in enumerate(ndimage.find_objects(numbers), start=1):
            if where is None:
                continue
            mine = numbers[where] == value
            rows, columns = np.nonzero(mine)
            for channel, places in enumerate((columns, rows)):
                out[channel][where][mine] = _scaled(places - places.mean())
        return out

    def loss(self, maps: Tensor, targets: Tensor, inside: Tensor, known: Tensor) -> Tensor:
        apart = maps.float() - targets
        error = (apart**2 * known).sum() / (2 * known.sum().clamp(min=1))
        both = inside & known
        sideways = both[..., 1:-1] & known[..., 2:] & known[..., :-2]
        above = both[:, :, 1:-1] & known[:, :, 2:] & known[:, :, :-2]
        across = ((apart[:, :1, :, 2:] - apart[:, :1, :, :-2]) / 2) ** 2 * sideways
        down = ((apart[:, 1:, 2:] - apart[:, 1:, :-2]) / 2) ** 2 * above
        return error + self.slope_weight * (across.sum() + down.sum()) / (2 * both.sum().clamp(min=1))

    def activate(self, maps: Tensor) -> Tensor:
        return maps.float().clamp(-1, 1)

    def separate(self, inside: Array, maps: Array) -> Array:
        edges = self.edges(inside, maps)
        return grow(seeds_of(inside & (edges <= self.edge), self.least_seed), edges, inside)

    def edges(self, inside: Array, maps: Array) -> Array:
        """How much the maps fall here, as a share of a step from 1 to -1: float32 ``(h, w)``, 0 where both rise."""
        from scipy.ndimage import gaussian_filter

        step = 2 / (self.smoothing * math.sqrt(2 * math.pi))
        values = np.where(inside, maps, 0).astype(np.float32)
        falls = [
            -gaussian_filter(values[channel], self.smoothing, order=order, mode="constant") / step
            for channel, order in ((0, (0, 1)), (1, (1, 0)))
        ]
        return np.maximum(np.maximum(*falls), 0)


def _scaled(offsets: Array) -> Array:
    """Divided by the farthest on each side."""
    low, high = max(-float(offsets.min()), 1e-6), max(float(offsets.max()), 1e-6)
    return np.where(offsets < 0, offsets / low, offsets / high)
