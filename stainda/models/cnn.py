"""Our own small patch classifier: the encoder of the U-Net, the mean over space, one linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from stainda.models.base import ClassificationNetwork
from stainda.models.blocks import Init, Norm, block_of, check_dropout, check_sizes, initialiser


class Cnn(ClassificationNetwork):
    """Blocks of 3 x 3 convolutions, max-pooling by 2 between them, twice as many features per level.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        depth: resolutions; 4 halves the image three times.
        width: features at full resolution; doubled at each level.
        norm: ``batch``, ``group`` (8 groups), ``instance`` (affine), or ``none``.
        convolutions: 3 x 3 convolutions per block.
        init: of the convolutions: ``kaiming`` (He normal), ``glorot`` (uniform), or ``pytorch``, as of the U-Net.
        dropout: share of the pooled features that is dropped in training.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 2,
        *,
        depth: int = 4,
        width: int = 16,
        norm: Norm = "batch",
        convolutions: int = 2,
        init: Init = "kaiming",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes("the CNN", depth=depth, width=width, convolutions=convolutions)
        check_dropout("the CNN", dropout)
        self.in_channels, self.n_classes = in_channels, n_classes
        self.smallest = 2 ** (depth - 1)
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "pooled"}
        widths = [width * 2**level for level in range(depth)]
        ins = [in_channels, *widths[:-1]]
        blocks = [block_of(a, b, convolutions, norm, "same") for a, b in zip(ins, widths, strict=True)]
        self.encoder = nn.ModuleList(blocks[:-1])
        self.bottleneck = blocks[-1]
        self.pool = nn.MaxPool2d(2)
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.head = nn.Linear(widths[-1], n_classes)
        self.handed_on, self.handed_channels = "pooled", widths[-1]
        self.apply(initialiser(init))

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = images
        for block in self.encoder:
            x = self.pool(block(x))
        return (self.pooled[0](self.bottleneck(x)),)

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.head(self.pooled(features[0]))
