"""Alignment by the length of feature vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.discrepancy import Discrepancy
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor

    from stainda.strategies.align.base import Step


@register("align", "afn")
class Afn(Discrepancy):
    """Adaptive feature norm: feature vectors of both domains are made longer, a little at every step.

    ``mean (‖f‖ - (‖f‖_now + Δ))²`` over rows of source and of target, ``‖f‖_now`` being the same number without
    gradient (pytorch-adapt's ``AdaptiveFeatureNorm``). Its value is always Δ²: only its gradient,
    ``-2 Δ f / (M ‖f‖)``, says anything.
    """

    reference: ClassVar[str] = "Xu et al. 2019, Larger Norm More Transferable, arXiv 1811.07456"
    target_logits: ClassVar[bool] = False

    layer: str = Field("decoder", description="layer whose vectors grow: the last before the classes")
    weight: float = Field(0.05, ge=0, description="of the norm term added to the task loss")
    features: Literal["pooled", "spatial", "sampled"] = Field(
        "spatial", description="one row per patch, per position, or per sampled position"
    )
    domains: Literal["source_target"] = Field("source_target", description="every row counts alike")
    step_size: float = Field(1.0, gt=0, description="Δ, by how much longer a vector should be than it is")

    term: ClassVar[str] = "norm"

    def distance(self, step: Step) -> Tensor:
        from stainda.strategies.align.support.pytorch_adapt import layers

        grown = layers.AdaptiveFeatureNorm(step_size=self.step_size)
        source, target = (grown(rows.features) for rows in self.rows(step))
        return source + target
