"""Networks and losses of domain separation (arXiv 1608.06019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class PrivateEncoder(nn.Module):
    """Patches ``[N, channels, H, W]`` to features ``[N, out, h, w]`` of any coarser size."""

    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, hidden, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, out, 3, padding=1),
        )  # fmt: skip

    def forward(self, images: Tensor, size: Sequence[int]) -> Tensor:
        return functional.adaptive_avg_pool2d(self.layers(images), (size[0], size[1]))


class PatchDecoder(nn.Module):
    """Features ``[N, channels, h, w]`` to a small picture of the patch, ``[N, out, 4 h, 4 w]``."""

    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, 16 * out, 3, padding=1), nn.PixelShuffle(4),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


def scale_invariant(picture: Tensor, images: Tensor) -> Tensor:
    """``mean d² - (mean d)²`` of each patch, d the difference from the patch at the picture's size; mean over patches.

    A picture that is wrong by a constant costs nothing (Eigen et al. 2014).
    """
    height, width = min(picture.shape[2], images.shape[2]), min(picture.shape[3], images.shape[3])
    shrunk, small = (functional.adaptive_avg_pool2d(maps, (height, width)) for maps in (picture, images))
    apart = (shrunk - small).flatten(1)
    return (apart.square().mean(1) - apart.mean(1).square()).mean()


def orthogonality(shared: Tensor, private: Tensor) -> Tensor:
    """``‖H_cᵀ H_p‖²`` of features ``[N, C, h, w]`` of all positions: 0 where every shared channel is orthogonal to
    every private one.

    Rows of H are positions: centred over positions, then each of length 1; divided by the squared number of rows.
    """
    one, other = (
        functional.normalize(rows - rows.mean(0), dim=1)
        for rows in (maps.float().movedim(1, -1).flatten(0, -2) for maps in (shared, private))
    )
    return (one.T @ other).square().sum() / torch.tensor(float(len(one))).square()
