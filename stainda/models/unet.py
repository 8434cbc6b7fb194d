"""Our own U-Net (Ronneberger, Fischer and Brox 2015, arXiv 1505.04597), from tiny to Lampert's.

Convolutions of 3 x 3 pixels, max-pooling by 2, twice as many features per level, skips by concatenation. Padding
``same`` keeps the size; ``valid`` pads nothing, as in the paper: every output pixel has seen real pixels only, so that
tiles of a large prediction fit together without seams, at the price of a margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from stainda.errors import ConfigError
from stainda.models.base import SegmentationNetwork

Norm = Literal["batch", "group", "instance", "none"]
Padding = Literal["same", "valid"]
Upsampling = Literal["learned", "bilinear"]
Init = Literal["kaiming", "glorot"]


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
        upsampling: ``learned`` (2 x 2 transposed convolution) or ``bilinear`` (then 1 x 1 convolution).
        convolutions: 3 x 3 convolutions per block.
        init: of the convolutions: ``kaiming`` (He normal) or ``glorot`` (uniform); biases start at 0.
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
        check_shape("the U-Net", depth, width, convolutions, dropout)
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

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, in_channels, H, W] to logits [N, n_classes, H - 2 margin, W - 2 margin]."""
        self.check_input(images)
        return self.answer(self.encode(images))

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


def check_shape(what: str, depth: int, width: int, convolutions: int, dropout: float) -> None:
    """Refuse sizes no network can have.

    Raises:
        ConfigError: a value outside its range.
    """
    for name, value, low, high in (
        ("depth", depth, 2, 8),
        ("width", width, 1, 1024),
        ("convolutions", convolutions, 1, 4),
    ):
        if not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{name!r} of {what} must be a whole number from {low} to {high}, not {value!r}")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigError(f"'dropout' of {what} must be at least 0 and below 1, not {dropout!r}")


class _UpBlock(nn.Module):
    """Twice the size, the skip of the same level next to it (its middle, where it is larger), then a block."""

    def __init__(
        self, below: int, width: int, convolutions: int, norm: Norm, padding: Padding, upsampling: Upsampling
    ) -> None:
        super().__init__()
        self.up: nn.Module
        if upsampling == "learned":
            self.up = nn.ConvTranspose2d(below, width, 2, stride=2)
        else:  # the 1 x 1 convolution commutes with the interpolation; first, it costs a quarter
            self.up = nn.Sequential(
                nn.Conv2d(below, width, 1), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            )
        self.block = block_of(2 * width, width, convolutions, norm, padding)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        skip = _cut(skip, (skip.shape[-1] - x.shape[-1]) // 2)
        return self.block(torch.cat([skip, x], dim=1))


def block_of(ins: int, outs: int, convolutions: int, norm: Norm, padding: Padding) -> nn.Sequential:
    """3 x 3 convolutions, each with its normalisation and a ReLU."""
    layers: list[nn.Module] = []
    for index in range(convolutions):
        layers.append(
            nn.Conv2d(
                ins if index == 0 else outs,
                outs,
                3,
                padding=1 if padding == "same" else 0,
                bias=norm in ("none", "group"),
            )
        )
        layers += normalised(norm, outs)
    return nn.Sequential(*layers)


def normalised(norm: Norm, width: int) -> list[nn.Module]:
    """What follows a convolution: its normalisation and a ReLU."""
    return [*_norm(norm, width), nn.ReLU(inplace=True)]


def _norm(norm: Norm, width: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(width)]
    if norm == "instance":
        return [nn.InstanceNorm2d(width, affine=True)]
    if norm == "group":
        return [nn.GroupNorm(next(groups for groups in (8, 4, 2, 1) if width % groups == 0), width)]
    return []


def initialiser(init: Init) -> Callable[[nn.Module], None]:
    """Starts the convolutions of a network: ``network.apply(initialiser("glorot"))``."""

    def start(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if init == "glorot":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    return start


def _cut(x: torch.Tensor, pixels: int) -> torch.Tensor:
    return x[..., pixels:-pixels, pixels:-pixels] if pixels else x
