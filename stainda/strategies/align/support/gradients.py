"""Gradients of single patches by a linear classifier, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stainda.strategies.features import pooled

_IGNORE = 255


def classifier_gradients(logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """Gradient of each patch's mean cross-entropy by the weights and bias of a linear classifier on its features.

    Args:
        logits: ``[N, K, H, W]`` or ``[N, K]``.
        labels: long ``[N, H, W]`` or ``[N]``; 255 counts neither way.
        features: ``[N, C, h, w]`` or ``[N, C]``, what the classifier reads; where h < H residuals are averaged, and
            logits of patches are read from the mean over positions.

    Returns:
        ``[N, K * (C + 1)]``, differentiable: weights (class by class), then biases.
    """
    if logits.dim() == 2:
        logits, labels = logits[:, :, None, None], labels[:, None, None]
        features = pooled(features)[:, :, None, None]
    known = (labels != _IGNORE).unsqueeze(1)
    truth = functional.one_hot(labels.where(labels != _IGNORE, 0), logits.shape[1]).movedim(-1, 1)
    residuals = (logits.float().softmax(1) - truth) * known
    residuals = residuals / known.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    if residuals.shape[2:] != features.shape[2:]:
        area = residuals[0, 0].numel() / features[0, 0].numel()
        residuals = functional.adaptive_avg_pool2d(residuals, (features.shape[2], features.shape[3])) * area
    weights = torch.einsum("nkp,ncp->nkc", residuals.flatten(2), features.float().flatten(2))
    return torch.cat([weights.flatten(1), residuals.flatten(2).sum(2)], dim=1)
