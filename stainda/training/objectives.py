"""What a training without labels minimises: one class per ``training.init.name``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stainda.config import InitConfig
from stainda.models import Network
from stainda.strategies.align.support.buffers import Copy
from stainda.strategies.features import FeatureTap, pooled
from stainda.training.contrastive import byol, head, nt_xent

HIDDEN = 256
"""Width of the hidden layer of the projection and the prediction head."""

_NARROWEST = 16


class Objective:
    """A loss on the features of unlabelled patches.

    Attributes:
        heads: modules that learn with the network and are thrown away.
        target: a copy of the network that follows it; ``None`` where the objective has none.
    """

    target: Copy | None = None

    def __init__(self, config: InitConfig, network: Network, probe: Tensor) -> None:
        """``probe``: a few images as the network takes them; the network is in evaluation."""
        self._config, self._network, self._tap = config, network, FeatureTap(network, "bottleneck")
        self.heads = self.make_heads(self._tap.until(probe), probe).to(probe.device)

    def make_heads(self, features: Tensor, probe: Tensor) -> nn.ModuleDict:
        """Modules for features ``[N, C, h, w]`` of the images ``probe``."""
        raise NotImplementedError

    def loss(self, images: Tensor, other_images: Tensor, same: Tensor) -> Tensor:
        """Of the two sides of a batch; each goes through the network by itself, as domains do in training.

        Args:
            images, other_images: ``[N, C, H, W]``, rows of the same number are a pair.
            same: bool ``[N, N]``, pairs that show the same place.
        """
        raise NotImplementedError

    def follow(self, share: float) -> None:
        """After a step, at this share of all steps."""


class Simclr(Objective):
    """Two views of a patch come together, those of other patches apart."""

    def make_heads(self, features: Tensor, probe: Tensor) -> nn.ModuleDict:
        return nn.ModuleDict({"project": head(pooled(features).shape[1], HIDDEN, self._config.dimensions)})

    def loss(self, images: Tensor, other_images: Tensor, same: Tensor) -> Tensor:
        first, second = self._projected(images, other_images)
        return nt_xent(first, second, self._config.temperature, same)

    def _projected(self, *sides: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (self.heads["project"](pooled(self._tap.until(side))) for side in sides)
        return first, second


class Byol(Simclr):
    """The projection of one view is predicted from the other's; the aim comes from a copy that follows slowly."""

    def __init__(self, config: InitConfig, network: Network, probe: Tensor) -> None:
        super().__init__(config, network, probe)
        self.heads["predict"] = head(config.dimensions, HIDDEN, config.dimensions).to(probe.device)
        self.target = Copy(self._online())

    def _online(self) -> nn.ModuleDict:
        return nn.ModuleDict({"network": self._network, "project": self.heads["project"]})

    def loss(self, images: Tensor, other_images: Tensor, same: Tensor) -> Tensor:
        first, second = self._projected(images, other_images)
        assert self.target is not None
        target = self.target.network
        assert isinstance(target, nn.ModuleDict)
        tap = FeatureTap(target["network"], "bottleneck")
        with torch.no_grad():
            aims = [target["project"](pooled(tap.until(side))) for side in (images, other_images)]
        predict = self.heads["predict"]
        return byol(predict(first), aims[1]) + byol(predict(second), aims[0])

    def follow(self, share: float) -> None:
        """``t <- m t + (1 - m) w``, m rising to 1 as a cosine, as Grill et al. have it."""
        assert self.target is not None
        m = 1 - (1 - self._config.momentum) * (math.cos(math.pi * share) + 1) / 2
        self.target.follow(self._online(), m)


class Autoencoder(Objective):
    """Each patch is made again from its coarsest features: mean squared error, in units of the standardised image.

    With ``sparsity`` the mean absolute feature is a second term, so that few features are used for a patch. (Cruz-Roa
    et al. 2013, doi 10.1007/978-3-642-40763-5_50, learn their features by an autoencoder, too; theirs has one layer on
    small windows.) The decoder has half as many features at twice the resolution, at each level.
    """

    def make_heads(self, features: Tensor, probe: Tensor) -> nn.ModuleDict:
        return nn.ModuleDict({"decode": decoder(features.shape[1], max(features.shape[-2:]), probe)})

    def loss(self, images: Tensor, other_images: Tensor, same: Tensor) -> Tensor:
        terms = []
        for side in (images, other_images):
            features = self._tap.until(side)
            error = (self.made_again(features, side) - side.float()).pow(2).mean()
            terms.append(error + self._config.sparsity * features.float().abs().mean())
        return torch.stack(terms).mean()

    def made_again(self, features: Tensor, images: Tensor) -> Tensor:
        """The images that the features stand for, float ``[N, C, H, W]`` of the size of ``images``."""
        coarse = self.heads["decode"](features).float()
        return nn.functional.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)


def decoder(channels: int, side: int, images: Tensor) -> nn.Sequential:
    """From a map of ``channels`` features towards images, doubled until it is as large as they are or four times."""
    layers: list[nn.Module] = []
    for _ in range(min(4, max(0, round(math.log2(max(images.shape[-2:]) / max(side, 1)))))):
        fewer = max(channels // 2, _NARROWEST)
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, fewer, 3, padding=1), nn.ReLU(inplace=True)]
        channels = fewer
    return nn.Sequential(*layers, nn.Conv2d(channels, images.shape[1], 3, padding=1))


OBJECTIVES: dict[str, type[Objective]] = {"simclr": Simclr, "byol": Byol, "autoencoder": Autoencoder}
