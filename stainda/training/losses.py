"""Losses by name, for pixels and for patches; what is labelled 255 counts neither way.

Every loss takes logits ``[N, K, H, W]`` with labels ``[N, H, W]`` (segmentation) or ``[N, K]`` with ``[N]``
(classification), class 0 being the background. *Places* are pixels, or patches. Rare classes are met in three ways that
combine: the share of patches with an object in a batch (``training.object_share``), the Dice and focal losses, and
weights of the classes (``task.class_weights``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = 255
"""Label of places that count neither way."""

Loss = Callable[..., Tensor]
"""Called with logits, labels and, where places do not count alike, their weights; a scalar."""


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over labelled places: ``Σ w_i c(y_i) (-log p_i) / Σ w_i c(y_i)``.

    Args:
        logits: float ``[N, K, H, W]`` or ``[N, K]``.
        labels: long ``[N, H, W]`` or ``[N]``, 0..K-1 or 255.
        weights: float, of the shape of labels: how much each place counts; all the same without it.
        class_weights: float ``[K]``, c; all 1 without it.
    """
    if weights is not None or class_weights is not None:
        each = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
        return _mean(each, labels, weights, class_weights)
    loss = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return loss / (labels != IGNORE).sum().clamp(min=1)


def dice(logits: Tensor, labels: Tensor, weights: Tensor | None = None, class_weights: Tensor | None = None) -> Tensor:
    """``1 - 2 Σ p g / (Σ p + Σ g)`` per foreground class over the whole batch, averaged (as Milletari et al. 2016).

    Pooling the batch keeps patches without any object from dominating. Of patches with one label each it is one minus
    the soft F1. Class weights weigh the classes in the average; that of the background means nothing here.
    """
    known = (labels != IGNORE).unsqueeze(1)
    if weights is not None:
        known = known * weights.unsqueeze(1)
    shares = torch.softmax(logits.float(), dim=1)[:, 1:] * known
    truth = functional.one_hot(labels.where(labels != IGNORE, 0), logits.shape[1]).movedim(-1, 1)[:, 1:] * known
    places = [0, *range(2, logits.dim())]
    overlap = (shares * truth).sum(dim=places)
    total = shares.sum(dim=places) + truth.sum(dim=places)
    each = 1.0 - (2.0 * overlap + 1.0) / (total + 1.0)
    if class_weights is None:
        return each.mean()
    own = class_weights.to(each)[1:]
    return (each * own).sum() / own.sum().clamp(min=1e-6)


def focal(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    gamma: float = 2.0,
) -> Tensor:
    """``-c(y) (1 - p)^γ log p`` of the true class, mean over labelled places (Lin et al. 2017, arXiv 1708.02002).

    The mean is weighted as that of :func:`cross_entropy`; the paper's α is a class weight.
    """
    log_p = -functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    loss = -((1.0 - log_p.exp()) ** gamma) * log_p
    if weights is not None or class_weights is not None:
        return _mean(loss, labels, weights, class_weights)
    return (loss * (labels != IGNORE)).sum() / (labels != IGNORE).sum().clamp(min=1)


def cross_entropy_dice(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, class_weights: Tensor | None = None
) -> Tensor:
    """Sum of both: the gradient of the first everywhere, the balance of the second."""
    return cross_entropy(logits, labels, weights, class_weights) + dice(logits, labels, weights, class_weights)


def focal_dice(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, class_weights: Tensor | None = None
) -> Tensor:
    """Sum of both: places that are still wrong lead, and the overlap counts."""
    return focal(logits, labels, weights, class_weights) + dice(logits, labels, weights, class_weights)


def hinge(logits: Tensor, labels: Tensor, weights: Tensor | None = None, class_weights: Tensor | None = None) -> Tensor:
    """``c(y) Σ_k max(0, 1 - t_k z_k)²``, t_k being 1 for the true class and -1 for others, mean over labelled places.

    With ``training.train: head``, where a last layer learns on features that stay as they are, it makes the linear
    support vector machine of Xu et al. 2015 (doi 10.1109/ICASSP.2015.7178109): squared hinge, one class against the
    rest; its margin is the weight decay. Softmax of its scores ranks, and is not calibrated.
    """
    truth = functional.one_hot(labels.where(labels != IGNORE, 0), logits.shape[1]).movedim(-1, 1)
    each = functional.relu(1.0 - (2.0 * truth - 1.0) * logits.float()).square().sum(1)
    return _mean(each, labels, weights, class_weights)


def _mean(loss: Tensor, labels: Tensor, weights: Tensor | None, class_weights: Tensor | None) -> Tensor:
    """Weighted mean over labelled places."""
    known = labels != IGNORE
    counts = known if weights is None else weights * known
    if class_weights is not None:
        counts = counts * class_weights.to(loss)[labels.where(known, 0)]
    return (loss * counts).sum() / counts.sum().clamp(min=1e-6)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "cross_entropy_dice": cross_entropy_dice,
    "focal": focal,
    "focal_dice": focal_dice,
    "hinge": hinge,
}


def make_loss(name: str, class_weights: Tensor | None = None) -> Loss:
    """The loss of this name, its classes weighted."""
    return LOSSES[name] if class_weights is None else partial(LOSSES[name], class_weights=class_weights)
