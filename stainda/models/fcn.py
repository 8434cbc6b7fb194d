"""Fully convolutional networks: FCN-32s, FCN-16s and FCN-8s (Long, Shelhamer and Darrell 2015, arXiv 1411.4038)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from stainda.errors import ConfigError
from stainda.models.base import SegmentationNetwork
from stainda.models.blocks import Norm, check_dropout, check_sizes, initialiser
from stainda.models.vgg_levels import STRIDE, level_widths, vgg_levels

FINEST = (32, 16, 8)


class Fcn(SegmentationNetwork):
    """The convolutions of VGG-16, its two fully connected layers as convolutions, and scores that are summed.

    Scores of the classes at a stride of 32 pixels are enlarged by 2 and added to those of the fourth pooling (FCN-16s),
    then to those of the third (FCN-8s), and the sum is enlarged to the image by a transposed convolution. Enlarging
    starts as bilinear interpolation and is learned; scores of the poolings start at 0, as in the paper. Its first
    convolution pads 100 pixels so that small images leave something; here the fully connected layers pad instead, so
    that maps keep their place.

    The layer ``decoder`` is the sum of scores before the last enlargement (of FCN-32s, which sums nothing, the enlarged
    scores): as many maps as classes.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        finest: stride in pixels of the finest scores that are summed: 32, 16 or 8.
        width: features at full resolution; 64 is VGG-16.
        fully_connected: features of the two layers that were fully connected; 4096 in the paper.
        norm: ``none`` as in the paper, ``batch``, ``group`` or ``instance``.
        dropout: share of the features of these two layers that is dropped in training.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 2,
        *,
        finest: int = 8,
        width: int = 64,
        fully_connected: int = 4096,
        norm: Norm = "none",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if finest not in FINEST:
            raise ConfigError(f"'finest' of the FCN must be one of 32, 16, 8, not {finest!r}")
        check_dropout("the FCN", dropout)
        check_sizes("the FCN", width=width, fully_connected=fully_connected)
        self.in_channels, self.n_classes, self.stride, self.margin = in_channels, n_classes, STRIDE, 0
        widths = level_widths(width)
        self.encoder = vgg_levels(in_channels, width, norm)
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = nn.Sequential(
            nn.Conv2d(widths[-1], fully_connected, 7, padding=3), nn.ReLU(inplace=True), nn.Dropout2d(dropout),
            nn.Conv2d(fully_connected, fully_connected, 1), nn.ReLU(inplace=True), nn.Dropout2d(dropout),
        )  # fmt: skip
        self.handed, self.handed_on = nn.Identity(), "handed"
        self.apply(initialiser("kaiming"))
        skips = {32: (), 16: (widths[3],), 8: (widths[3], widths[2])}[finest]
        self.head = _SummedScores(fully_connected, skips, n_classes)
        self.handed_channels = fully_connected
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "head.summed" if skips else "head"}

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The third and the fourth pooling, and the second of the two layers that were fully connected."""
        pooled, x = [], images
        for level in self.encoder:
            x = self.pool(level(x))
            pooled.append(x)
        return pooled[2], pooled[3], self.bottleneck(x)

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        *finer, coarsest = features
        return self.head((*finer, self.handed(coarsest)))


class _SummedScores(nn.Module):
    """Scores of the coarsest maps, enlarged by 2 and added to those of finer ones, then enlarged to the image."""

    def __init__(self, coarsest: int, skips: Sequence[int], n_classes: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(coarsest, n_classes, 1)
        self.skips = nn.ModuleList(nn.Conv2d(width, n_classes, 1) for width in skips)
        for parameter in (*self.score.parameters(), *self.skips.parameters()):
            nn.init.zeros_(parameter)
        nn.init.kaiming_normal_(self.score.weight, nonlinearity="linear")
        self.twice = nn.ModuleList(enlarging(n_classes, 2) for _ in skips)
        self.summed = nn.Identity()
        self.whole = enlarging(n_classes, STRIDE // 2 ** len(skips))

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        *finer, coarsest = features
        scores = self.score(coarsest)
        for skip, twice, maps in zip(self.skips, self.twice, reversed(finer), strict=False):
            scores = twice(scores) + skip(maps)
        return self.whole(self.summed(scores))


def enlarging(maps: int, times: int) -> nn.ConvTranspose2d:
    """A transposed convolution that starts as bilinear interpolation, each map by itself."""
    layer = nn.ConvTranspose2d(maps, maps, 2 * times, stride=times, padding=times // 2, bias=False)
    line = 1 - (torch.arange(2 * times) - (times - 0.5)).abs() / times
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(maps), range(maps)] = torch.outer(line, line)
    return layer
