"""PangNet: three convolutions without pooling (Pang et al. 2010), with which Naylor et al. 2018 compare.

Pang, Zhang, Zhou and Wu 2010, doi 10.1109/CISP.2010.5647264; widths as in Naylor, Laé, Reyal and Walter 2018,
doi 10.1109/TMI.2018.2865709.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from stainda.models.base import SegmentationNetwork
from stainda.models.blocks import Norm, block_of, check_sizes, initialiser


class PangNet(SegmentationNetwork):
    """Convolutions of 3 x 3 pixels at full resolution: a pixel is judged by 7 x 7 of its neighbours.

    ``bottleneck`` is the last but one convolution, ``decoder`` the last; both have the size of the image.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        width: features of each convolution.
        convolutions: how many.
        norm: ``none`` as in the paper, ``batch``, ``group`` or ``instance``.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(
        self, in_channels: int = 3, n_classes: int = 2, *, width: int = 8, convolutions: int = 3, norm: Norm = "none"
    ) -> None:
        super().__init__()
        check_sizes("PangNet", width=width, convolutions=convolutions)
        self.in_channels, self.n_classes, self.stride, self.margin = in_channels, n_classes, 1, 0
        self.encoder = block_of(in_channels, width, convolutions - 1, norm, "same")
        self.bottleneck = nn.Identity()
        self.decoder = block_of(width if convolutions > 1 else in_channels, width, 1, norm, "same")
        self.head = nn.Conv2d(width, n_classes, 1)
        self.handed_channels = width if convolutions > 1 else in_channels
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "decoder"}
        self.apply(initialiser("kaiming"))

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.encoder(images),)

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.head(self.decoder(self.bottleneck(features[0])))
