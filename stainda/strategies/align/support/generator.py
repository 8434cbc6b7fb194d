"""The network that makes patches of noise and a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_COARSEST = 4
_LEVELS = 3
_BOUND = 3.0


class PatchGenerator(nn.Module):
    """Noise and class to a patch: a map of 4 x 4, doubled three times with a convolution each, then brought to size.

    As the generator of DCGAN (Radford et al. 2016, arXiv 1511.06434), with convolutions of nearest neighbours in place
    of transposed ones, which leave a checkerboard (Odena et al. 2016). What it gives is bounded by ±3: patches are
    standardised as the network sees them, and from ImageNet's numbers black is -2.1 and white 2.6.

    Args:
        noise: numbers per patch. n_classes: the background counted. hidden: channels before the last convolution; each
            coarser level has twice as many. channels: of a patch.
    """

    def __init__(self, noise: int, n_classes: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        widths = [hidden * 2**level for level in reversed(range(_LEVELS))]
        self.start = nn.Linear(noise + n_classes, widths[0] * _COARSEST**2)
        steps: list[nn.Module] = []
        for before, after in zip(widths, [*widths[1:], hidden], strict=True):
            steps += [
                nn.BatchNorm2d(before), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)
            ]  # fmt: skip
        self.layers = nn.Sequential(*steps, nn.BatchNorm2d(hidden), nn.ReLU())
        self.last = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, noise: Tensor, classes: Tensor, size: tuple[int, int]) -> Tensor:
        """Noise ``[N, noise]`` and classes long ``[N]`` to patches ``[N, channels, *size]``."""
        given = torch.cat([noise, functional.one_hot(classes, self.n_classes).to(noise.dtype)], 1)
        maps = self.layers(self.start(given).view(len(noise), -1, _COARSEST, _COARSEST))
        maps = self.last(functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)).float()
        return _BOUND * torch.tanh(maps / _BOUND)
