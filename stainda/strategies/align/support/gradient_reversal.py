"""A gradient turned round on its way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse(values: Tensor, weight: float) -> Tensor:
    """The identity forward; backward the gradient times ``-weight`` (Ganin et al. 2016)."""
    return _Reversal.apply(values, float(weight))
