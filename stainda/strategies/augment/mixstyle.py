"""MixStyle: statistics of a layer's output mixed between the patches of a batch, while the network trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from stainda.strategies.augment.base import Augment
from stainda.strategies.features import find_layer
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

_TINY = 1e-6


@register("augment", "mixstyle")
class MixStyleAugment(Augment):
    """Mean and spread of a layer's channels mixed between the patches of a batch, while the network trains.

    Acts inside the network, on labelled and unlabelled batches alike, and is off at prediction.
    """

    reference: ClassVar[str] = "Zhou et al. 2021, Domain Generalization with MixStyle, arXiv 2104.02008"

    layers: tuple[str, ...] = Field(
        ("early",), min_length=1, description="layers whose output is mixed: early, bottleneck, decoder or module paths"
    )
    alpha: float = Field(0.1, gt=0, description="of the Beta distribution of the shares; small: one style or the other")
    p: float = Field(0.5, ge=0, le=1, description="share of batches mixed")

    def prepare(self, network: nn.Module) -> None:
        mix_in(network, self.layers, self.p, self.alpha)

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return images, labels


def mix_styles(features: Tensor, share: Tensor, order: Tensor) -> Tensor:
    """``sigma' (x - mu) / sigma + mu'`` with mean and deviation over space, per patch and channel, mixed with those of
    another patch: ``mu' = share mu + (1 - share) mu[order]``, sigma' alike. The statistics carry no gradient.

    Args:
        features: [N, C, h, w].
        share: [N] in 0..1. order: long [N], the other patch of each.
    """
    import torch

    with torch.no_grad():
        mean = features.mean((2, 3), keepdim=True)
        spread = (features.var((2, 3), keepdim=True, unbiased=True) + _TINY).sqrt()
        own = share.to(features)[:, None, None, None]
        aim_mean, aim_spread = own * mean + (1 - own) * mean[order], own * spread + (1 - own) * spread[order]
    return (features - mean) / spread * aim_spread + aim_mean


class Switch:
    """Remembers whether the network, as a whole, is training; called before each of its forward passes."""

    def __init__(self) -> None:
        self.on = False

    def __call__(self, network: nn.Module, inputs: Any) -> None:
        self.on = network.training


class StyleMixer:
    """Mixes the styles of a layer's output. Draws come from torch's own generator on the CPU, which training seeds."""

    def __init__(self, switch: Switch, p: float, alpha: float) -> None:
        self._switch, self._p, self._alpha = switch, p, alpha

    def __call__(self, layer: nn.Module, inputs: Any, output: Any) -> Any:
        import torch

        n = len(output)
        if not self._switch.on or n < 2 or float(torch.rand(())) >= self._p:
            return output
        share = torch.distributions.Beta(self._alpha, self._alpha).sample((n,))
        return mix_styles(output, share, torch.randperm(n).to(output.device))


def mix_in(network: nn.Module, layers: Sequence[str], p: float, alpha: float) -> None:
    """Mix the styles of these layers' outputs whenever the network is in training mode.

    Raises:
        ConfigError: the network has no such layer.
    """
    switch = Switch()
    network.register_forward_pre_hook(switch)
    for layer in layers:
        find_layer(network, layer).register_forward_hook(StyleMixer(switch, p, alpha))
