"""Regression of the distance map (Naylor)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from stainda.instances.base import DenseHead, DepthHead, register

if TYPE_CHECKING:
    from torch import Tensor


@register("distance")
class DistanceHead(DepthHead, DenseHead):
    """How deep a pixel lies in its own object, regressed; objects are the basins of the map turned upside down.

    Target: the distance to the nearest pixel that is not of the object, divided by the object's greatest (the paper
    regresses pixels; divided, one ``h`` serves objects of all sizes). Loss: mean squared error, times the square of
    ``depth``, as if objects were that many pixels deep (as shares, its gradient is too faint next to that of the
    classes). Objects: h-minima of the negative map are the seeds of a watershed on it: of two maxima whose saddle is
    less than ``h`` below the lower one, one is a seed.
    """

    reference: ClassVar[str] = (
        "Naylor et al. 2018, Segmentation of Nuclei in Histopathology Images by Deep Regression of the Distance Map, "
        "IEEE TMI 38(2), doi 10.1109/TMI.2018.2865709"
    )

    depth: float = Field(5.0, gt=0, description="pixels that an object is taken to be deep in the loss")

    def loss(self, maps: Tensor, targets: Tensor, inside: Tensor, known: Tensor) -> Tensor:
        return self.depth**2 * ((maps.float() - targets) ** 2 * known).sum() / known.sum().clamp(min=1)

    def activate(self, maps: Tensor) -> Tensor:
        return maps.float().clamp(0, 1)
