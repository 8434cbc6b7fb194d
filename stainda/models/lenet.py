"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, doi 10.1109/5.726791) as patch classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from stainda.models.base import ClassificationNetwork
from stainda.models.blocks import check_sizes, initialiser

Activation = Literal["tanh", "relu"]
_SIDE = 32
"""Pixels at each side of the paper's images."""


class LeNet5(ClassificationNetwork):
    """Two convolutions of 5 x 5 pixels with pooling, a third one that was fully connected, 84 features, the classes.

    Patches of 32 pixels give the paper's network, whose third convolution sees all; of larger ones, its 120 features
    are the means over their places. Every map of the second convolution sees all of the first, and pooling is a plain
    mean, as in today's versions: the paper's table of connections and its trained pooling saved computation in 1998.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        activation: ``tanh`` as in the paper, or ``relu``.
        width: times as many features as in the paper.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(
        self, in_channels: int = 3, n_classes: int = 2, *, activation: Activation = "tanh", width: int = 1
    ) -> None:
        super().__init__()
        check_sizes("LeNet-5", width=width)
        act = nn.Tanh if activation == "tanh" else nn.ReLU
        self.in_channels, self.n_classes, self.smallest = in_channels, n_classes, _SIDE
        first, second, third, fourth = (width * features for features in (6, 16, 120, 84))
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, first, 5), act(), nn.AvgPool2d(2),
            nn.Conv2d(first, second, 5), act(), nn.AvgPool2d(2),
        )  # fmt: skip
        self.bottleneck = nn.Sequential(nn.Conv2d(second, third, 5), act())
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Sequential(nn.Linear(third, fourth), act())
        self.head = nn.Linear(fourth, n_classes)
        self.handed_on, self.handed_channels = "pooled", third
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "last"}
        self.apply(initialiser("glorot" if activation == "tanh" else "kaiming"))

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.pooled[0](self.bottleneck(self.encoder(images))),)

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.head(self.last(self.pooled(features[0])))
