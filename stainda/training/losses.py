"""Segmentation losses by name; pixels labelled 255 count neither way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = 255
"""Label of pixels that count neither way."""

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labelled pixels.

    Args:
        logits: float ``[N, K, H, W]``, class 0 the background.
        labels: long ``[N, H, W]``, 0..K-1 or 255.
    """
    loss = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return loss / (labels != IGNORE).sum().clamp(min=1)


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """``1 - 2 Σ p g / (Σ p + Σ g)`` per foreground class over the whole batch, averaged (as Milletari et al. 2016).

    Pooling the batch keeps patches without any object from dominating.
    """
    known = (labels != IGNORE).unsqueeze(1)
    shares = torch.softmax(logits.float(), dim=1)[:, 1:] * known
    truth = functional.one_hot(labels.where(labels != IGNORE, 0), logits.shape[1]).movedim(-1, 1)[:, 1:] * known
    overlap = (shares * truth).sum(dim=(0, 2, 3))
    total = shares.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    return (1.0 - (2.0 * overlap + 1.0) / (total + 1.0)).mean()


def cross_entropy_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of both: the gradient of the first everywhere, the balance of the second."""
    return cross_entropy(logits, labels) + dice(logits, labels)


def focal(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """``-(1 - p)^γ log p`` of the true class, mean over labelled pixels (Lin et al. 2017, arXiv 1708.02002)."""
    log_p = -functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    loss = -((1.0 - log_p.exp()) ** gamma) * log_p
    return (loss * (labels != IGNORE)).sum() / (labels != IGNORE).sum().clamp(min=1)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "cross_entropy_dice": cross_entropy_dice,
    "focal": focal,
}
