"""CDAN: the discriminator sees what was predicted next to the features."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.adversarial import Adversarial, certainty, dense_cross_entropy
from stainda.strategies.align.base import Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "cdan")
class Cdan(Adversarial):
    """Conditional adversarial: the discriminator sees what was predicted next to the features.

    D reads ``f ⊗ p``, every product of a feature and a class probability at the same place, or, where that would be
    more than ``width`` numbers, the randomised product ``(R_f f) ∘ (R_p p) / √width`` of pytorch-adapt's
    ``RandomizedDotProduct``. Gradients are reversed as in DANN; p is a condition and passes none on, as in the authors'
    code. With ``entropy`` (CDAN-E) each row weighs ``1 + exp(-H(p))``, scaled to mean 1 within its batch: sure
    predictions count more.
    """

    reference: ClassVar[str] = "Long et al. 2018, Conditional Adversarial Domain Adaptation, arXiv 1705.10667"
    target_logits: ClassVar[bool] = True

    entropy: bool = Field(False, description="rows weighed by how sure their prediction is (CDAN-E)")
    width: int = Field(1024, ge=1, description="numbers the discriminator reads, at most")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import PooledDiscriminator
        from stainda.strategies.align.support.pytorch_adapt import layers

        full = site.channels * site.n_classes
        modules: dict[str, nn.Module] = {}
        if full > self.width:
            modules["product"] = layers.RandomizedDotProduct([site.channels, site.n_classes], self.width)
        modules["discriminator"] = PooledDiscriminator(
            min(full, self.width), self.hidden, self.outputs(site), self.discriminator_norm
        )
        return modules

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.gradient_reversal import reverse

        verdicts = []
        for rows in self.rows(step):
            assert rows.probabilities is not None
            condition = rows.probabilities.detach()
            joint = reverse(self.joint(rows.features, condition, step), self.strength(step))
            loss = dense_cross_entropy(step.modules["discriminator"](joint), self.labels(rows.domains, step.n_sources))
            verdicts.append((loss * certainty(condition) if self.entropy else loss).mean())
        return {"domain": 0.5 * (verdicts[0] + verdicts[1])}

    def judged(self, step: Step) -> list[tuple[Tensor, Tensor, Tensor]]:
        result = []
        for rows in self.rows(step):
            assert rows.probabilities is not None
            result.append((self.joint(rows.features, rows.probabilities, step), rows.domains, rows.patch))
        return result

    @staticmethod
    def joint(features: Tensor, probabilities: Tensor, step: Step) -> Tensor:
        """``[M, C]`` and ``[M, K]`` to what the discriminator reads, ``[M, C K]`` or ``[M, width]``."""
        if "product" in step.modules:
            return step.modules["product"](features, probabilities)
        return (features.unsqueeze(2) * probabilities.unsqueeze(1)).flatten(1)
