"""Alignment by a discriminator that tries to name the domain while the network tries to prevent it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stainda.strategies.align import FeatureAlign, Site, Step, ramp
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "dann")
class Dann(FeatureAlign):
    """Domain-adversarial training: features from which a discriminator cannot name the domain.

    The discriminator D minimises the cross-entropy of the domain; behind a gradient reversal of weight λ the network
    maximises it: ``L = L_task(source) + L_domain(D(reverse_λ(features)))``, where ``reverse_λ`` is the identity
    forward and multiplies by -λ backward. D learns at full strength whatever λ is.

    pytorch-adapt does the work (``FeaturesForDomainLossHook``, ``GradientReversalHook``, ``DomainLossHook``: the domain
    half of its ``DANNHook``). The reversal is built with a float weight: the library's default of 1 is an integer
    buffer that stores any scheduled weight below 1 as 0, which silently trains without adaptation.

    ``features: spatial`` asks D at every position of the layer's map; ``pooled`` asks it once per patch.
    """

    reference: ClassVar[str] = "Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv 1505.07818"

    weight: float = Field(0.1, ge=0, description="λ, strength of the reversed gradient at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="λ grows from 0 (Ganin) or is constant")
    features: Literal["spatial", "pooled"] = Field("spatial", description="one verdict per position, or per patch")
    domains: Literal["source_target", "each"] = Field(
        "source_target", description="D tells source from target, or names each domain"
    )
    hidden: int = Field(64, ge=1, description="channels of the discriminator's hidden layers")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.discriminators import PooledDiscriminator, SpatialDiscriminator

        outputs = site.n_domains if self.domains == "each" else 2
        made = SpatialDiscriminator if self.features == "spatial" else PooledDiscriminator
        return {"discriminator": made(site.channels, self.hidden, outputs)}

    def losses(self, step: Step) -> dict[str, Tensor]:
        assert step.target is not None
        reversal, hook = self._hooks
        reversal.update_weight(self.weight * ramp(self.schedule, step.progress))
        source, target = step.features()
        context = {
            "src_imgs_features": source,
            "target_imgs_features": target,
            "D": step.modules["discriminator"],
            "src_domain": self._labels(step.source.domains, 0),
            "target_domain": self._labels(step.target.domains, 1),
        }
        _, losses = hook(context, {})
        return {"domain": 0.5 * (losses["src_domain_loss"].mean() + losses["target_domain_loss"].mean())}

    def _labels(self, domains: Tensor, side: int) -> Tensor:
        return domains if self.domains == "each" else domains.new_full(domains.shape, side)

    @cached_property
    def _hooks(self) -> tuple[Any, Any]:
        """The gradient reversal and the chain of pytorch-adapt's hooks around it."""
        from stainda.strategies.adapt import ChainHook, OnlyNewOutputsHook, hooks

        features = hooks.FeaturesForDomainLossHook()
        reversal = hooks.GradientReversalHook(weight=1.0, apply_to=features.out_keys)  # a float, see the docstring
        domain = hooks.DomainLossHook(d_loss_fn=dense_cross_entropy, f_hook=features)
        return reversal.fn, ChainHook(features, OnlyNewOutputsHook(ChainHook(reversal, domain, overwrite=[1])))


def dense_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy ``[N]`` of one label per patch with logits ``[N, K]`` or ``[N, K, h, w]``, mean over positions."""
    from torch.nn.functional import cross_entropy

    flat = logits.flatten(2) if logits.dim() > 2 else logits.unsqueeze(2)
    return cross_entropy(flat, labels.long().unsqueeze(1).expand(-1, flat.shape[2]), reduction="none").mean(1)
