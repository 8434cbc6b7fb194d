"""Losses of self-supervised training on pairs, and measures of what it came to."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def nt_xent(first: Tensor, second: Tensor, temperature: float, same: Tensor | None = None) -> Tensor:
    """The loss of SimCLR (Chen et al. 2020, arXiv 2002.05709): normalised, temperature-scaled cross-entropy.

    ``- 1/2N sum_i log( exp(z_i·z_p(i) / t) / sum_{k ≠ i} exp(z_i·z_k / t) )`` over all 2N vectors, ``p(i)`` the other
    of the pair.

    Args:
        first, second: ``[N, D]``; rows of the same number are a pair. They are normalised here.
        same: bool ``[N, N]``, pairs that show the same place and are therefore no negatives of each other.
    """
    n = len(first)
    z = nn.functional.normalize(torch.cat([first, second]).float(), dim=1)
    similarity = z @ z.T / temperature
    left_out = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    if same is not None:
        left_out = left_out | same.to(z.device).repeat(2, 2)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    left_out[torch.arange(2 * n), partner] = False
    return nn.functional.cross_entropy(similarity.masked_fill(left_out, -torch.inf), partner)


def byol(predicted: Tensor, target: Tensor) -> Tensor:
    """One side of the loss of BYOL (Grill et al. 2020, arXiv 2006.07733): ``2 - 2 cos(q(z_1), sg(z_2))``, its mean."""
    cosine = nn.functional.cosine_similarity(predicted.float(), target.detach().float(), dim=1)
    return (2 - 2 * cosine).mean()


def alignment(view: Tensor, other_view: Tensor) -> float:
    """``E |f(x) - f(y)|²`` of pairs, features normalised (Wang & Isola 2020, arXiv 2005.10242): 0 to 4, less is
    nearer."""
    first, second = (nn.functional.normalize(side.float(), dim=1) for side in (view, other_view))
    return float((first - second).pow(2).sum(1).mean())


def uniformity(features: Tensor, t: float = 2.0) -> float:
    """``log E exp(-t |f(x) - f(y)|²)`` over different rows, normalised (Wang & Isola 2020): 0 where all are the same,
    less the more evenly they lie on the sphere."""
    squared = torch.pdist(nn.functional.normalize(features.float(), dim=1)).pow(2)
    return float(squared.mul(-t).exp().mean().log())


def head(ins: int, hidden: int, outs: int) -> nn.Sequential:
    """Projection or prediction head: two layers, as both papers have it."""
    return nn.Sequential(nn.Linear(ins, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outs))
