"""Networks whose decoder puts maxima back where they were: SegNet and DeconvNet.

SegNet: Badrinarayanan, Kendall and Cipolla 2017, arXiv 1511.00561. DeconvNet: Noh, Hong and Han 2015, arXiv 1505.04366.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from stainda.errors import ConfigError
from stainda.models.base import SegmentationNetwork
from stainda.models.blocks import Norm, block_of, check_sizes, initialiser, normalised
from stainda.models.vgg_levels import CONVOLUTIONS, STRIDE, level_widths, vgg_levels


class Unpooling(SegmentationNetwork):
    """The convolutions of VGG-16, and their mirror image: each maximum goes back to its place, with zeros elsewhere.

    What follows the encoder needs the places of the maxima as well as its maps, so ``encode`` is refused.
    """

    def __init__(self, in_channels: int, n_classes: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.in_channels, self.n_classes, self.stride, self.margin = in_channels, n_classes, STRIDE, 0
        widths = level_widths(width)
        self.encoder = vgg_levels(in_channels, width, norm)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.bottleneck: nn.Module = nn.Identity()
        self.enlarged: nn.Module = nn.Identity()
        outs = [width, *widths[:-1]]  # a level ends with the features of the next finer one
        self.decoder = nn.ModuleList(
            self.mirrored(widths[level], outs[level], CONVOLUTIONS[level], norm)
            for level in reversed(range(len(widths)))
        )
        self.head = nn.Conv2d(width, n_classes, 1)
        self.handed_channels = widths[-1]
        self.default_layers = {"bottleneck": "bottleneck", "decoder": f"decoder.{len(widths) - 1}"}

    def mirrored(self, ins: int, outs: int, convolutions: int, norm: Norm) -> nn.Sequential:
        """The layers of the decoder that mirror a level."""
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, in_channels, H, W] to logits [N, n_classes, H, W]."""
        self.check_input(images)
        places, x = [], images
        for level in self.encoder:
            x, where = self.pool(level(x))
            places.append(where)
        x = self.enlarged(self.bottleneck(x))
        for level, where in zip(self.decoder, reversed(places), strict=True):
            x = level(self.unpool(x, where))
        return self.head(x)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise ConfigError(
            f"{type(self).__name__} has no features apart from its decoder, which also takes the places of the maxima",
            remedy="Take a network such as unet or smp for what keeps features (training.cache)",
        )

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        raise ConfigError(f"{type(self).__name__} answers from images only")


class SegNet(Unpooling):
    """SegNet: VGG-16 without its fully connected layers, and its mirror image; every convolution normalised by batch.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        width: features at full resolution; 64 is VGG-16.
        norm: ``batch`` as in the paper, ``group``, ``instance`` or ``none``.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(self, in_channels: int = 3, n_classes: int = 2, *, width: int = 64, norm: Norm = "batch") -> None:
        check_sizes("SegNet", width=width)
        super().__init__(in_channels, n_classes, width, norm)
        self.apply(initialiser("kaiming"))

    def mirrored(self, ins: int, outs: int, convolutions: int, norm: Norm) -> nn.Sequential:
        return nn.Sequential(*block_of(ins, ins, convolutions - 1, norm, "same"), *block_of(ins, outs, 1, norm, "same"))


class DeconvNet(Unpooling):
    """DeconvNet: VGG-16 with its fully connected layers, mirrored by transposed convolutions.

    The fully connected layers are convolutions over ``context`` x ``context`` pixels of 32, so that images of any size
    from 32 ``context`` on are taken; 7 and 224 pixels in the paper.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        width: features at full resolution; 64 is VGG-16.
        fully_connected: features of the fully connected layers; 4096 in the paper.
        context: side of what the first of them sees, in pixels behind the last pooling.
        norm: ``batch`` as in the paper, ``group``, ``instance`` or ``none``.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 2,
        *,
        width: int = 64,
        fully_connected: int = 4096,
        context: int = 7,
        norm: Norm = "batch",
    ) -> None:
        check_sizes("DeconvNet", width=width, fully_connected=fully_connected, context=context)
        super().__init__(in_channels, n_classes, width, norm)
        self._context = context
        last = level_widths(width)[-1]
        self.bottleneck = nn.Sequential(
            nn.Conv2d(last, fully_connected, context), *normalised(norm, fully_connected),
            nn.Conv2d(fully_connected, fully_connected, 1), *normalised(norm, fully_connected),
        )  # fmt: skip
        self.enlarged = nn.Sequential(nn.ConvTranspose2d(fully_connected, last, context), *normalised(norm, last))
        self.handed_channels = fully_connected
        self.apply(initialiser("kaiming"))

    @property
    def minimum_size(self) -> int:
        return self.stride * self._context

    def mirrored(self, ins: int, outs: int, convolutions: int, norm: Norm) -> nn.Sequential:
        widths = [ins] * convolutions + [outs]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 3, padding=1), *normalised(norm, after)]
        return nn.Sequential(*layers)
