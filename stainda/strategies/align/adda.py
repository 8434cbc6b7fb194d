"""ADDA: adversarial discriminative adaptation in two phases of one training."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, cast

from stainda.strategies.align.adversarial import Adversarial, dense_cross_entropy
from stainda.strategies.align.base import Batch, DomainAnswers, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.buffers import FrozenCopy


@register("align", "adda")
class Adda(Adversarial):
    """Adversarial discriminative adaptation, in two phases of one training.

    For the share ``warm_up`` of the steps the network learns from the source alone. It is then copied; the features the
    copy gives the source, which never change again, are what is "real". From there on a discriminator tells them from
    the network's features of the target, and the network moves only the latter, by the inverted-label loss
    ``λ CE(D(f_t), source)`` against a D held still.

    Differences from the paper, so that one network serves all domains and every strategy has the same budget: both
    phases share the steps, and the task loss on the source goes on in the second (the paper freezes the classifier and
    trains a network for the target only). Source against target only: "real" is one side.
    """

    needs_pixels: ClassVar[bool] = True

    reference: ClassVar[str] = "Tzeng et al. 2017, Adversarial Discriminative Domain Adaptation, arXiv 1702.05464"

    warm_up: float = Field(0.3, gt=0, lt=1, description="share of the steps on the source alone")
    schedule: Literal["warm_up", "constant"] = Field("constant", description="λ grows with the steps or is constant")
    domains: Literal["source_target"] = Field("source_target", description="the source's features are the real ones")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.buffers import FrozenCopy
        from stainda.strategies.align.support.discriminators import PooledDiscriminator

        assert site.network is not None
        return {
            "discriminator": PooledDiscriminator(site.channels, self.hidden, 2, self.discriminator_norm),
            "source_network": FrozenCopy(site.network),
        }

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.rows import frozen_call

        if step.progress < self.warm_up:
            return {}
        discriminator = step.modules["discriminator"]
        real, moved = (seen for seen, *_ in self.judged(step))

        def named(verdict: Tensor, side: int) -> Tensor:
            return dense_cross_entropy(verdict, verdict.new_full((len(verdict),), side).long()).mean()

        domain_loss = 0.5 * (named(discriminator(real), 0) + named(discriminator(moved.detach()), 1))
        return {"domain": domain_loss, "inverted": self.strength(step) * named(frozen_call(discriminator, moved), 0)}

    def judged(self, step: Step) -> list[tuple[Tensor, Tensor, Tensor]]:
        import torch

        from stainda.strategies.align.support.rows import both_rows
        from stainda.strategies.features import FeatureTap

        with torch.no_grad(), step.autocast():
            before = cast("FrozenCopy", step.modules["source_network"]).of(step.network)
            features = FeatureTap(before, self.layer).until(step.compared.images)
        kept = Batch(step.compared.images, step.compared.domains, features)
        rows = both_rows(step, self.features, self.samples, predictions=False, source=kept)
        return [(row.features, row.domains, row.patch) for row in rows]

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        return {} if step.progress < self.warm_up else super().verdicts(step)
