"""Our own U-Net (Ronneberger, Fischer and Brox 2015, arXiv 1505.04597), from tiny to Lampert's.

Convolutions of 3 x 3 pixels, max-pooling by 2, twice as many features per level, skips by concatenation. Padding
``same`` keeps the size; ``valid`` pads nothing, as in the paper: every output pixel has seen real pixels only, so that
tiles of a large prediction fit together without seams, at the price of a margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from stainda.models.base import SegmentationNetwork
from stainda.models.blocks import Init, Norm, Padding, block_of, check_dropout, check_sizes, initialiser

Upsampling = Literal["learned", "bilinear", "interpolated"]


class UNet(SegmentationNetwork):
    """A U-Net of any depth and width.

    With ``c`` convolutions per block and ``d = depth - 1`` halvings, ``valid`` padding loses ``c (3 * 2**d - 2)``
    pixels at each side (92 for c = 2, d = 4: 572 in, 388 out, as in the paper). The sizes it takes without remainder
    are then not multiples of ``2**d``; so that the same patch sizes serve every network, ``c mod 2**(d - 1)`` more
    pixels are cut from each side of the input before the first convolution. ``margin`` counts both.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        depth: resolutions, the bottleneck included; 5 halves the image four times.
        width: features at full resolution; doubled at each level.
        norm: ``batch``, ``group`` (8 groups), ``instance`` (affine), or ``none``.
        padding: ``same`` or ``valid``.
        upsampling: ``learned`` (2 x 2 transposed convolution), ``bilinear`` (then 1 x 1 convolution to half the
            features), or ``interpolated`` (bilinear, with all features of the level below: half as many operations
            again, and no layer between a block and the next).
        convolutions: 3 x 3 convolutions per block.
        init: of the convolutions: ``kaiming`` (He normal) or ``glorot`` (uniform), biases start at 0; or
            ``pytorch`` (uniform, its standard deviation √6 smaller than He's; biases too).
        dropout: share of the bottleneck's feature maps that is dropped in training.

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
        padding: Padding = "same",
        upsampling: Upsampling = "learned",
        convolutions: int = 2,
        init: Init = "kaiming",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes("the U-Net", depth=depth, width=width, convolutions=convolutions)
        check_dropout("the U-Net", dropout)
        halvings = depth - 1
        self.in_channels, self.n_classes = in_channels, n_classes
        self.stride = 2**halvings
        self._trim = convolutions % 2 ** (halvings - 1) if padding == "valid" else 0
        self.margin = convolutions * (3 * 2**halvings - 2) + self._trim if padding == "valid" else 0
        self.default_layers = {"bottleneck": "handed", "decoder": f"decoder.{halvings - 1}"}

        widths = [width * 2**level for level in range(depth)]
        ins = [in_channels, *widths[:-1]]
        blocks = [block_of(a, b, convolutions, norm, padding) for a, b in zip(ins, widths, strict=True)]
        self.encoder = nn.ModuleList(blocks[:-1])
        self.bottleneck = blocks[-1]
        if dropout:
            self.bottleneck.append(nn.Dropout2d(dropout))
        self.handed, self.handed_on = nn.Identity(), "handed"
        self.pool = nn.MaxPool2d(2)
        self.decoder = nn.ModuleList(
            _UpBlock(widths[level + 1], widths[level], convolutions, norm, padding, upsampling)
            for level in reversed(range(halvings))
        )
        self.head = nn.Conv2d(width, n_classes, 1)
        self.handed_channels = widths[-1]
        self.apply(initialiser(init))

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = _cut(images, self._trim)
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        return (*skips, self.bottleneck(x))

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        *skips, x = features
        x = self.handed(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        return self.head(x)


class _UpBlock(nn.Module):
    """Twice the size, the skip of the same level next to it (its middle, where it is larger), then a block."""

    def __init__(
        self, below: int, width: int, convolutions: int, norm: Norm, padding: Padding, upsampling: Upsampling
    ) -> None:
        super().__init__()
        self.up: nn.Module
        if upsampling == "learned":
            self.up = nn.ConvTranspose2d(below, width, 2, stride=2)
        else:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        if upsampling == "bilinear":  # the 1 x 1 convolution commutes with the interpolation; first, it costs a quarter
            self.up = nn.Sequential(nn.Conv2d(below, width, 1), self.up)
        handed = below if upsampling == "interpolated" else width
        self.block = block_of(width + handed, width, convolutions, norm, padding)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        skip = _cut(skip, (skip.shape[-1] - x.shape[-1]) // 2)
        return self.block(torch.cat([skip, x], dim=1))


def _cut(x: torch.Tensor, pixels: int) -> torch.Tensor:
    return x[..., pixels:-pixels, pixels:-pixels] if pixels else x
