"""How far two probability maps of the same place are from each other."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

_LARGEST = 16.0  # pixels; a wider window would average objects away


def windowed(maps: Tensor, sure: Tensor, radius: Tensor) -> Tensor:
    """Maps ``[N, K, H, W]`` averaged over a Gaussian window, places weighted by ``sure`` ``[N, H, W]``.

    ``radius`` ``[N]`` is the standard deviation in pixels (16 at most); windows are cut off at two of them. Where
    nothing in the window is sure the maps are as they were.
    """
    n, k, height, width = maps.shape
    spread = radius.detach().clamp(0.0, _LARGEST).to(maps)
    reach = min(math.ceil(2.0 * float(spread.max())), min(height, width) - 1)
    if reach < 1:
        return maps
    offsets = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / spread.clamp(min=1e-3)[:, None]) ** 2)
    kernel = kernel * (offsets.abs() <= torch.ceil(2.0 * spread)[:, None])
    kernel = kernel / kernel.sum(1, keepdim=True)
    weights = sure[:, None].to(maps)
    both = torch.cat([maps * weights, weights], dim=1).reshape(1, n * (k + 1), height, width)
    kernel = kernel.repeat_interleave(k + 1, 0)
    both = functional.conv2d(both, kernel[:, None, :, None], padding=(reach, 0), groups=n * (k + 1))
    both = functional.conv2d(both, kernel[:, None, None, :], padding=(0, reach), groups=n * (k + 1))
    both = both.view(n, k + 1, height, width)
    total = both[:, k:]
    return torch.where(total > 1e-6, both[:, :k] / total.clamp(min=1e-6), maps)


def disagreement(first: Tensor, second: Tensor, sure: Tensor, measure: Literal["dice", "js", "both"]) -> Tensor:
    """Soft Dice distance of foreground classes, Jensen-Shannon divergence in bits, or their sum: a scalar.

    Args:
        first, second: probabilities ``[N, K, H, W]``, class 0 the background.
        sure: weights ``[N, H, W]``.
    """
    result = []
    weights = sure[:, None]
    if measure in ("dice", "both"):
        p, q = first[:, 1:], second[:, 1:]
        shared = (weights * p * q).sum(dim=(0, 2, 3))
        total = (weights * (p * p + q * q)).sum(dim=(0, 2, 3))
        result.append((1.0 - (2.0 * shared + 1e-3) / (total + 1e-3)).mean())
    if measure in ("js", "both"):
        middle = 0.5 * (first + second)
        gain = entropy(middle) - 0.5 * (entropy(first) + entropy(second))
        result.append((gain * sure).sum() / sure.sum().clamp(min=1.0) / math.log(2.0))
    return torch.stack(result).sum()


def entropy(shares: Tensor) -> Tensor:
    """Shannon entropy in nats over dim 1; 0 log 0 = 0, with a finite gradient."""
    return -(shares * shares.clamp(min=1e-7).log()).sum(1)
