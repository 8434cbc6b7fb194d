"""Alignment by a distance between the feature distributions of source and target."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stainda.strategies.align import FeatureAlign, Step, ramp
from stainda.strategies.features import pooled
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "mmd")
class Mmd(FeatureAlign):
    """Maximum mean discrepancy between pooled features of source and target.

    With k the mean of Gaussian kernels ``exp(-s ‖a-b‖² / m)`` (m: median squared distance within the source batch, s:
    the scales), the loss is the unbiased estimate ``E k(x,x') + E k(y,y') - 2 E k(x,y)`` over pairs of patches, as
    pytorch-adapt's ``AlignerHook`` and ``MMDLoss(mmd_type="quadratic")`` compute it. It may be slightly negative.
    """

    reference: ClassVar[str] = (
        "Long et al. 2015, Learning Transferable Features with Deep Adaptation Networks, arXiv 1502.02791"
    )

    weight: float = Field(1.0, ge=0, description="of the discrepancy beside the task loss, at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("constant", description="the weight grows from 0, or is constant")
    kernels: Literal["single", "many"] = Field(
        "single", description="one bandwidth, the median, or 33 from 2^-8 to 2^8"
    )

    def losses(self, step: Step) -> dict[str, Tensor]:
        source, target = map(pooled, step.features())
        context = {"src_imgs_features": source, "target_imgs_features": target}
        _, losses = self._hook(context, {})
        return {"mmd": self.weight * ramp(self.schedule, step.progress) * losses["features_confusion_loss"]}

    @cached_property
    def _hook(self) -> Any:
        from stainda.strategies.adapt import get_kernel_scales, hooks, layers

        scales = get_kernel_scales() if self.kernels == "many" else 1.0
        return hooks.AlignerHook(loss_fn=layers.MMDLoss(kernel_scales=scales, mmd_type="quadratic"))
