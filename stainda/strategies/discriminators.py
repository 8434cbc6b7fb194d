"""The networks that guess the domain, and the classifiers beside the network's own."""

from __future__ import annotations

from torch import Tensor, nn

from stainda.strategies.features import pooled


class SpatialDiscriminator(nn.Module):
    """Domain logits at every position, by 1×1 convolutions: ``[N, C, h, w]`` to ``[N, outputs, h, w]``."""

    def __init__(self, channels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, hidden, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, outputs, 1),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features if features.dim() == 4 else features[..., None, None])


class PooledDiscriminator(nn.Module):
    """Domain logits per patch from features averaged over space: ``[N, C, h, w]`` or ``[N, C]`` to ``[N, outputs]``."""

    def __init__(self, channels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden), nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
            nn.Linear(hidden, outputs),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(pooled(features))


class Head(nn.Module):
    """Class scores at every position of a map, or of one vector: ``[N, C, ...]`` to ``[N, outputs, ...]``."""

    def __init__(self, channels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1))

    def forward(self, features: Tensor) -> Tensor:
        if features.dim() == 2:
            return self.layers(features[..., None, None]).flatten(1)
        return self.layers(features)
