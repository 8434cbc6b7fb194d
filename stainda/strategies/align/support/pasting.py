"""Parts of patches pasted into others: which pixels, and the pasting."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from stainda.strategies.align.support.shares import beta_draw

_IGNORE = 255


def paste(over: Tensor, under: Tensor, where: Tensor) -> Tensor:
    """Images ``[N, C, H, W]``: ``over`` where the mask (bool ``[N, H, W]``) is set, ``under`` elsewhere."""
    return torch.where(where[:, None], over, under)


def rectangles(images: Tensor, alpha: float, generator: Generator) -> Tensor:
    """A rectangle in each patch, bool ``[N, H, W]``: of the patch's proportions, its area the share ``1 - λ`` of the
    patch before the rim cuts it, λ from Beta(α, α), the middle anywhere."""
    n, _, height, width = images.shape
    side = torch.tensor([(1.0 - beta_draw(alpha, generator)) ** 0.5 for _ in range(n)])
    middle = torch.rand(n, 2, generator=generator)
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    rows = (y[None] - middle[:, :1] * height).abs() <= side[:, None] * height / 2
    columns = (x[None] - middle[:, 1:] * width).abs() <= side[:, None] * width / 2
    return (rows[:, :, None] & columns[:, None]).to(images.device)


def middle_square(values: Tensor, share: float) -> Tensor:
    """The square in the middle of ``[N, H, W]``, ``share`` of the side wide, at least a pixel."""
    height, width = values.shape[-2:]
    sides = [max(1, round(share * side)) for side in (height, width)]
    top, left = (height - sides[0]) // 2, (width - sides[1]) // 2
    return values[..., top : top + sides[0], left : left + sides[1]]


def class_masks(labels: Tensor, generator: Generator) -> Tensor:
    """Pixels of half of the classes that each label map ``[N, H, W]`` shows (rounded up, drawn at random, background
    among them), bool; 255 is of no class (ClassMix, Olsson et al. 2021, arXiv 2007.07936)."""
    result = torch.zeros_like(labels, dtype=torch.bool)
    for index, own in enumerate(labels):
        shown = own[own != _IGNORE].unique()
        order = torch.randperm(len(shown), generator=generator)[: (len(shown) + 1) // 2]
        result[index] = torch.isin(own, shown[order.to(shown.device)])
    return result


def object_masks(labels: Tensor) -> Tensor:
    """Pixels of all classes but the background, bool ``[N, H, W]``."""
    return (labels > 0) & (labels != _IGNORE)


def without_rim(mask: Tensor, margin: int) -> Tensor:
    """The part of a mask ``[N, H, W]`` for which a network gives an output."""
    return mask[:, margin:-margin, margin:-margin] if margin else mask


def with_rim(mask: Tensor, margin: int) -> Tensor:
    """A mask of the output at the size of the patch; its rim is not set."""
    return functional.pad(mask, [margin] * 4) if margin else mask
