"""The networks that guess the domain, and the classifiers in addition to the network's own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from stainda.errors import ConfigError
from stainda.strategies.align.base import DiscriminatorNorm
from stainda.strategies.features import pooled


class SpatialDiscriminator(nn.Module):
    """Domain logits at every position, by 1×1 convolutions: ``[N, C, h, w]`` to ``[N, outputs, h, w]``."""

    def __init__(self, channels: int, hidden: int, outputs: int, norm: DiscriminatorNorm = "none") -> None:
        super().__init__()
        layers = [nn.Conv2d(*widths, 1) for widths in pairwise((channels, hidden, hidden, outputs))]
        self.layers = bounded(layers, (hidden, hidden), norm)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features if features.dim() == 4 else features[..., None, None])


class PooledDiscriminator(nn.Module):
    """Domain logits per patch from features averaged over space: ``[N, C, h, w]`` or ``[N, C]`` to ``[N, outputs]``.

    It sees vectors, of which there is no instance normalisation.

    Raises:
        ConfigError: ``norm`` is ``instance``.
    """

    def __init__(self, channels: int, hidden: int, outputs: int, norm: DiscriminatorNorm = "none") -> None:
        super().__init__()
        if norm == "instance":
            raise ConfigError("discriminator_norm: instance needs maps, and vectors are judged", remedy="Take spectral")
        layers = [nn.Linear(*widths) for widths in pairwise((channels, hidden, hidden, outputs))]
        self.layers = bounded(layers, (hidden, hidden), norm)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(pooled(features))


def bounded(layers: Sequence[nn.Module], widths: Sequence[int], norm: DiscriminatorNorm) -> nn.Sequential:
    """Layers with leaky rectifiers between them, under a norm.

    Args:
        widths: channels after each layer but the last.
        norm: ``instance`` normalises what hidden layers give but the first's, as PatchGAN does (Isola et al. 2017,
            arXiv 1611.07004: the first layer still sees the colour); ``spectral`` divides every weight by its largest
            singular value.
    """
    steps: list[nn.Module] = []
    for place, layer in enumerate(layers):
        steps.append(parametrizations.spectral_norm(layer) if norm == "spectral" else layer)
        if place < len(widths):
            if norm == "instance" and place:
                steps.append(nn.InstanceNorm2d(widths[place]))
            steps.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*steps)


class Head(nn.Module):
    """Class scores at every position of a map, or of one vector: ``[N, C, ...]`` to ``[N, outputs, ...]``."""

    def __init__(self, channels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1))

    def forward(self, features: Tensor) -> Tensor:
        if features.dim() == 2:
            return self.layers(features[..., None, None]).flatten(1)
        return self.layers(features)
