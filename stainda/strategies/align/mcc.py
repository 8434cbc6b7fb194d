"""Minimum class confusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.predictions import Predictions
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "mcc")
class Mcc(Predictions):
    """Minimum class confusion: no two classes are predicted together.

    With P the softmax at temperature T of M rows and W their weights ``1 + exp(-H)`` of mean 1, the confusion is
    ``C = Pᵀ W P`` with its rows divided by their sums; the loss is the mean over classes of what lies off its diagonal
    (pytorch-adapt's ``MCCLoss``).
    """

    reference: ClassVar[str] = "Jin et al. 2020, Minimum Class Confusion, arXiv 1912.03699"

    weight: float = Field(1.0, ge=0, description="of the term added to the task loss, at the end of the schedule")
    features: Literal["spatial", "sampled"] = Field("sampled", description="every pixel, or sampled ones")
    temperature: float = Field(2.5, gt=0, description="T, above 1 for softer predictions")

    def of_rows(self, logits: Tensor) -> Tensor:
        from stainda.strategies.align.support.pytorch_adapt import layers

        return layers.MCCLoss(T=self.temperature)(logits)
