"""Discriminators that look at maps as large as the output, and what they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from stainda.strategies.align.base import DiscriminatorNorm, DomainAnswers
from stainda.strategies.align.support.discriminators import bounded
from stainda.strategies.align.support.rows import joined_answers, rows_of


class MapDiscriminator(nn.Module):
    """Domain logits ``[N, 1, h, w]`` of maps ``[N, K, H, W]``: strided 4×4 convolutions, as AdaptSegNet's.

    Each of ``layers`` halves the map and doubles the channels (up to four times ``hidden``).
    """

    def __init__(self, channels: int, hidden: int, layers: int, norm: DiscriminatorNorm = "none") -> None:
        super().__init__()
        widths = [channels, *(hidden * min(4, 2**level) for level in range(layers))]
        convolutions = [nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)]
        self.layers = bounded([*convolutions, nn.Conv2d(widths[-1], 1, 1)], widths[1:], norm)

    def forward(self, maps: Tensor) -> Tensor:
        return self.layers(maps)


def verdict(logits: Tensor, side: int, counts: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of domain logits of any shape with one side: 0 the source, 1 the target. A scalar.

    Args:
        counts: how much each logit counts, of their shape; ``None``: all alike.
    """
    wanted = logits.new_full(logits.shape, float(side))
    if counts is None:
        return functional.binary_cross_entropy_with_logits(logits, wanted)
    losses = functional.binary_cross_entropy_with_logits(logits, wanted, weight=counts, reduction="sum")
    return losses / counts.sum().clamp(min=1e-6)


def shares_of(known: Tensor, verdicts: Tensor) -> Tensor:
    """Share of known pixels (float ``[N, 1, H, W]``, 0 or 1) in the cell of each verdict ``[N, 1, h, w]``."""
    height, width = verdicts.shape[-2:]
    return functional.adaptive_avg_pool2d(known, (height, width))


def side_loss(logits: Tensor, side: int) -> Tensor:
    """Cross-entropy of domain logits ``[N, 2, h, w]`` with one side, mean over positions."""
    labels = logits.new_full((logits.shape[0], *logits.shape[2:]), side, dtype=torch.long)
    return functional.cross_entropy(logits, labels)


def held(module: nn.Module, inputs: Tensor) -> Tensor:
    """The module's output, differentiable in its input and not in its weights."""
    weights = {name: value.detach() for name, value in module.named_parameters()}
    return functional_call(module, weights, (inputs,))


def of_two_sides(logits: Sequence[Tensor]) -> DomainAnswers:
    """Domain logits of source and target as rows ``[M, 2]``, labelled by their sides.

    Args:
        logits: of the source, then of the target: ``[N, 2, h, w]``, or ``[N, 1, h, w]`` for the target's side alone.
    """
    sides = []
    for side, maps in enumerate(logits):
        rows = rows_of(maps)
        rows = torch.cat([torch.zeros_like(rows), rows], 1) if rows.shape[1] == 1 else rows
        patches = torch.arange(len(maps), device=maps.device).repeat_interleave(len(rows) // len(maps))
        sides.append(DomainAnswers(rows, torch.full_like(patches, side), patches))
    return joined_answers(sides)
