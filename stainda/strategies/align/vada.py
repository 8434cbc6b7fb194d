"""VADA: DANN with boundaries kept away from the target's patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step
from stainda.strategies.align.dann import Dann
from stainda.strategies.align.vat import smoothness
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "vada")
class Vada(Dann):
    """VADA: domain-adversarial, with boundaries kept away from the target's patches and smooth around them.

    DANN's loss, plus ``target`` times (entropy of the target's predictions + VAT on the target), plus ``source`` times
    VAT on the source. See ``dann``, ``entropy`` and ``vat``.
    """

    reference: ClassVar[str] = "Shu et al. 2018, A DIRT-T Approach to Unsupervised Domain Adaptation, arXiv 1802.08735"
    target_logits: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True

    weight: float = Field(0.1, ge=0, description="λ, strength of the network's side at the end of the schedule")
    target: float = Field(0.01, ge=0, description="of entropy and smoothness on the target, at the end of the schedule")
    source: float = Field(1.0, ge=0, description="of smoothness on the source, at the end of the schedule")
    radius: float = Field(0.1, gt=0, description="size of the change, root mean square in standardised units")
    iterations: int = Field(1, ge=1, description="steps of the power method")

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.pytorch_adapt import layers
        from stainda.strategies.align.support.rows import rows_of

        assert step.target is not None and step.target.logits is not None
        growing = self.growth(step)
        terms = super().losses(step)
        terms["entropy"] = self.target * growing * layers.EntropyLoss()(rows_of(step.target.logits).float())
        for name, weight, batch in (("source", self.source, step.source), ("target", self.target, step.target)):
            if weight:
                terms[f"smooth_{name}"] = weight * growing * smoothness(step, batch, self.radius, self.iterations)
        return terms
