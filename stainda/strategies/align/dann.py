"""DANN: features from which a discriminator cannot name the domain."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from stainda.strategies.align.adversarial import Adversarial, dense_cross_entropy
from stainda.strategies.align.base import Site, Step
from stainda.strategies.parts import register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "dann")
class Dann(Adversarial):
    """Domain-adversarial training: features from which a discriminator cannot name the domain.

    The discriminator D minimises the cross-entropy of the domain; behind a gradient reversal of weight λ the network
    maximises it: ``L = L_task(source) + L_domain(D(reverse_λ(features)))``, where ``reverse_λ`` is the identity
    forward and multiplies by -λ backward. D learns at full strength whatever λ is.

    pytorch-adapt does the work (``FeaturesForDomainLossHook``, ``GradientReversalHook``, ``DomainLossHook``: the domain
    half of its ``DANNHook``). The reversal is built with a float weight: the library's default of 1 is an integer
    buffer that stores any scheduled weight below 1 as 0, which silently trains without adaptation.

    ``features: spatial`` asks D at every position of the layer's map; ``pooled`` asks it once per patch; ``sampled`` at
    some positions.
    """

    reference: ClassVar[str] = "Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv 1505.07818"

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import PooledDiscriminator, SpatialDiscriminator

        discriminator = PooledDiscriminator if self.features == "pooled" else SpatialDiscriminator
        return {"discriminator": discriminator(site.channels, self.hidden, self.outputs(site), self.discriminator_norm)}

    @property
    def judges_vectors(self) -> bool:
        return self.features != "spatial"

    def losses(self, step: Step) -> dict[str, Tensor]:
        assert step.target is not None
        reversal, hook = self._hooks
        reversal.update_weight(self.strength(step))
        (source, own, _), (target, others, _) = self.judged(step)
        context = {
            "src_imgs_features": source,
            "target_imgs_features": target,
            "D": step.modules["discriminator"],
            "src_domain": self.labels(own, step.n_sources),
            "target_domain": self.labels(others, step.n_sources),
        }
        _, losses = hook(context, {})
        return {"domain": 0.5 * (losses["src_domain_loss"].mean() + losses["target_domain_loss"].mean())}

    def judged(self, step: Step) -> list[tuple[Tensor, Tensor, Tensor]]:
        if self.features == "sampled":
            return super().judged(step)
        from torch import arange

        assert step.target is not None
        sides = zip(step.features(), (step.compared.domains, step.target.domains), strict=True)
        return [(seen, domains, arange(len(domains), device=domains.device)) for seen, domains in sides]

    @cached_property
    def _hooks(self) -> tuple[Any, Any]:
        """The gradient reversal and the chain of pytorch-adapt's hooks around it."""
        from stainda.strategies.align.support.pytorch_adapt import ChainHook, OnlyNewOutputsHook, hooks

        features = hooks.FeaturesForDomainLossHook()
        reversal = hooks.GradientReversalHook(weight=1.0, apply_to=features.out_keys)  # a float, see the docstring
        domain = hooks.DomainLossHook(d_loss_fn=dense_cross_entropy, f_hook=features)
        return reversal.fn, ChainHook(features, OnlyNewOutputsHook(ChainHook(reversal, domain, overwrite=[1])))
