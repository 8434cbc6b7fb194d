"""Gradually vanishing bridges: what is the domain's own is given a place of its own, which then shrinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.adversarial import Adversarial, certainty, dense_cross_entropy
from stainda.strategies.align.base import DomainAnswers, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.rows import Rows


@register("align", "gvb")
class Gvb(Adversarial):
    """Adversarial on predictions, with a bridge on either side for what is the domain's own.

    A classifier γ in addition to the network's reads the same features f; D judges ``softmax(z - γ(f))``, z being the
    network's logits, through a reversed gradient. D has a bridge too: its verdict is ``d(p) - b(p)``. Both bridges are
    made to vanish by the mean of their absolute values: the network's by the network, D's by D (on predictions that
    pass no gradient). Rows weigh as in CDAN-E where ``entropy`` is set.

    The network is used without γ, so that its task loss is on z itself; the paper trains and uses z - γ. With few
    classes a prediction at one pixel says little of its domain: D sees ``samples`` pixels drawn evenly by class.
    """

    reference: ClassVar[str] = "Cui et al. 2020, Gradually Vanishing Bridge, arXiv 2003.13183"
    target_logits: ClassVar[bool] = True
    unscaled: ClassVar[tuple[str, ...]] = ("bridge",)
    judges: ClassVar[tuple[str, ...]] = ("discriminator", "verdict_bridge")

    layer: str = Field("decoder", description="layer the bridge reads: the last before the classes")
    features: Literal["spatial", "pooled", "sampled"] = Field(
        "sampled", description="every position, the mean of a patch, or sampled positions"
    )
    bridge: float = Field(1.0, ge=0, description="weight of the network's bridge, which it makes vanish")
    verdict_bridge: float = Field(1.0, ge=0, description="the same for the discriminator's")
    entropy: bool = Field(False, description="rows weighed by how sure their prediction is")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from torch import nn

        from stainda.strategies.align.support.discriminators import PooledDiscriminator

        outputs, norm = self.outputs(site), self.discriminator_norm
        return {
            "bridge": nn.Linear(site.channels, site.n_classes),
            "discriminator": PooledDiscriminator(site.n_classes, self.hidden, outputs, norm),
            "verdict_bridge": PooledDiscriminator(site.n_classes, self.hidden, outputs, norm),
        }

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.gradient_reversal import reverse
        from stainda.strategies.align.support.pytorch_adapt import layers

        size, domain_losses, bridged, vanishing = layers.AbsLoss(), [], [], []
        for rows in self.rows(step):
            gamma, shares = self._bridged(rows, step)
            verdict = self._verdict(reverse(shares, self.strength(step)), step)
            loss = dense_cross_entropy(verdict, self.labels(rows.domains, step.n_sources))
            domain_losses.append((loss * certainty(shares.detach()) if self.entropy else loss).mean())
            bridged.append(size(gamma))
            vanishing.append(size(step.modules["verdict_bridge"](shares.detach())))
        return {
            "domain": 0.5 * (domain_losses[0] + domain_losses[1]),
            "bridge": self.bridge * 0.5 * (bridged[0] + bridged[1]),
            "verdict_bridge": self.verdict_bridge * 0.5 * (vanishing[0] + vanishing[1]),
        }

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        from stainda.strategies.align.support.rows import joined_answers

        sides = [
            DomainAnswers(
                self._verdict(self._bridged(rows, step)[1], step), self.labels(rows.domains, step.n_sources), rows.patch
            )
            for rows in self.rows(step)
        ]
        return {"discriminator": joined_answers(sides)}

    @staticmethod
    def _bridged(rows: Rows, step: Step) -> tuple[Tensor, Tensor]:
        """The bridge of each row, and its class probabilities without it."""
        import torch

        assert rows.probabilities is not None
        gamma = step.modules["bridge"](rows.features)
        # the log of a probability is its logit up to what softmax does not see
        return gamma, torch.softmax(rows.probabilities.clamp(min=1e-6).log() - gamma, dim=1)

    @staticmethod
    def _verdict(shares: Tensor, step: Step) -> Tensor:
        return step.modules["discriminator"](shares) - step.modules["verdict_bridge"](shares)
