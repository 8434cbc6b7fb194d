"""The convolutions of VGG-16, level by level: the encoder of FCN, SegNet and DeconvNet."""

from __future__ import annotations

from torch import nn

from stainda.models.blocks import Norm, block_of

WIDTHS = (1, 2, 4, 8, 8)
"""Features of the five levels, as multiples of those at full resolution (Simonyan and Zisserman 2015, column D)."""
CONVOLUTIONS = (2, 2, 3, 3, 3)
"""3 x 3 convolutions of each level."""
STRIDE = 2 ** len(WIDTHS)
"""Input pixels per pixel behind the last pooling."""


def level_widths(width: int) -> list[int]:
    """Features of each level; 64 at full resolution is VGG-16."""
    return [width * times for times in WIDTHS]


def vgg_levels(in_channels: int, width: int, norm: Norm) -> nn.ModuleList:
    """The five levels without the pooling between them."""
    outs = level_widths(width)
    ins = [in_channels, *outs[:-1]]
    return nn.ModuleList(block_of(*sizes, norm, "same") for sizes in zip(ins, outs, CONVOLUTIONS, strict=True))
