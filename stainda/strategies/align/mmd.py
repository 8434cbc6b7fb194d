"""Maximum mean discrepancy between features of source and target."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stainda.strategies.align.base import Step
from stainda.strategies.align.discrepancy import Discrepancy
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "mmd")
class Mmd(Discrepancy):
    """Maximum mean discrepancy between features of source and target.

    With k the mean of Gaussian kernels ``exp(-s ‖a-b‖² / m)`` (m: median squared distance within the source batch, or
    the mean where half of these are 0, as among two rows; s: the scales), the loss is the unbiased estimate
    ``E k(x,x') + E k(y,y') - 2 E k(x,y)`` over pairs of rows, as pytorch-adapt's ``AlignerHook`` and
    ``MMDLoss(mmd_type="quadratic")`` compute it. It may be slightly negative.
    """

    reference: ClassVar[str] = (
        "Long et al. 2015, Learning Transferable Features with Deep Adaptation Networks, arXiv 1502.02791"
    )

    features: Literal["pooled", "sampled"] = Field("pooled", description="one row per patch, or per sampled position")
    kernels: Literal["single", "many"] = Field(
        "single", description="one bandwidth, the median, or 33 from 2^-8 to 2^8"
    )

    term: ClassVar[str] = "mmd"

    def distance(self, step: Step) -> Tensor:
        from stainda.strategies.align.support.rows import on_pairs

        source, target = self.rows(step)
        return on_pairs(source, target, self.domains == "each", self._between)

    def _between(self, source: Tensor, target: Tensor) -> Tensor:
        source, target = unit_bandwidth(source, target)
        _, losses = self._hook({"src_imgs_features": source, "target_imgs_features": target}, {})
        return losses["features_confusion_loss"]

    @cached_property
    def _hook(self) -> Any:
        from stainda.strategies.align.support.pytorch_adapt import hooks

        return hooks.AlignerHook(loss_fn=mmd_layer(self.kernels, bandwidth=1.0))


def mmd_layer(kernels: Literal["single", "many"], bandwidth: float | None = None) -> Any:
    """pytorch-adapt's unbiased MMD of rows."""
    from stainda.strategies.align.support.pytorch_adapt import get_kernel_scales, layers

    scales = get_kernel_scales() if kernels == "many" else 1.0
    return layers.MMDLoss(kernel_scales=scales, mmd_type="quadratic", bandwidth=bandwidth)


def unit_bandwidth(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both divided by a number, so that the median squared distance within the source is 1 (the mean, if it is 0).

    The median is over pairs of different rows: with the zeros of every row and itself it would depend on their number.
    """
    import torch

    with torch.no_grad():
        squared = torch.nn.functional.pdist(source).square()
        squared = squared if len(squared) else source.new_zeros(1)
        bandwidth = squared.median()
        bandwidth = torch.where(bandwidth > 1e-8, bandwidth, squared.mean().clamp(min=1e-8))
        scale = bandwidth.rsqrt()
    return source * scale, target * scale
