"""Domain confusion: the network is to leave a discriminator, held still, undecided between the domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.adversarial import Adversarial, dense_cross_entropy
from stainda.strategies.align.base import Site, Step
from stainda.strategies.parts import register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "domain_confusion")
class DomainConfusion(Adversarial):
    """Domain confusion: the discriminator is brought to answer every domain equally often.

    D minimises the cross-entropy of the domain on features that pass no gradient; the network minimises
    ``-(1/K) Σ_k log D_k(f)`` (pytorch-adapt's ``UniformDistributionLoss``) through a D whose parameters are held still.
    Each player thus gets the gradient of its own loss alone, in one step. Unlike a reversed gradient, that of the
    network vanishes where D is unsure and is strong where D is sure.
    """

    reference: ClassVar[str] = (
        "Tzeng et al. 2015, Simultaneous Deep Transfer Across Domains and Tasks, arXiv 1510.02192"
    )

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import PooledDiscriminator

        return {
            "discriminator": PooledDiscriminator(
                site.channels, self.hidden, self.outputs(site), self.discriminator_norm
            )
        }

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.pytorch_adapt import layers
        from stainda.strategies.align.support.rows import frozen_call

        uniform, discriminator = layers.UniformDistributionLoss(), step.modules["discriminator"]
        named, confused = [], []
        for rows in self.rows(step):
            verdict = discriminator(rows.features.detach())
            named.append(dense_cross_entropy(verdict, self.labels(rows.domains, step.n_sources)).mean())
            confused.append(uniform(frozen_call(discriminator, rows.features)))
        return {
            "domain": 0.5 * (named[0] + named[1]),
            "confusion": self.strength(step) * 0.5 * (confused[0] + confused[1]),
        }
