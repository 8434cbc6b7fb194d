"""Low-rank changes of a frozen network's weights (LoRA).

``W + alpha / rank · B A`` with ``A`` drawn at random and ``B`` zero at the start, so that training begins at the
network as it is. A convolution's weight ``[out, in, h, w]`` is taken as a matrix of ``out`` rows. The change is a
parametrisation of torch: it reaches any layer that has a ``weight``, and becomes part of the weight when training has
ended, so that a checkpoint is one of the plain network.

Written here, since peft (0.21, alive) brings transformers, tokenizers and accelerate with it, and its checkpoints need
peft to be read.

Reference: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """``weight + alpha / rank · B A``.

    Args:
        weight: that is changed, ``[out, in]`` or ``[out, in, h, w]``.
        rank: of the change; at most that of the weight.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.scale = alpha / rank
        self.a = nn.Parameter(weight.new_empty(rank, columns))
        self.b = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.b @ self.a).view(weight.shape)


def add_low_rank(network: nn.Module, chosen: Callable[[str], bool], rank: int, alpha: float) -> None:
    """Give linear layers and convolutions without groups a change that learns; their weights do not.

    Args:
        chosen: whether the module of this path is meant.
    """
    for path, module in list(network.named_modules()):
        dense = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
        if not dense or not chosen(path):
            continue
        weight = module.get_parameter("weight").requires_grad_(False)
        parametrize.register_parametrization(module, "weight", LowRank(weight.detach(), rank, alpha))


def merge_low_rank(network: nn.Module) -> None:
    """Make the changes part of the weights: the network is then one without them, and gives the same."""
    for module in [part for part in network.modules() if parametrize.is_parametrized(part, "weight")]:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """``state_dict`` of the network as :func:`merge_low_rank` would leave it, which stays as it is."""
    state = dict(network.state_dict())
    for name, module in network.named_modules():
        if not parametrize.is_parametrized(module, "weight"):
            continue
        inside = f"{name}.parametrizations.weight."
        state = {key: value for key, value in state.items() if not key.startswith(inside)}
        with torch.no_grad():
            state[f"{name}.weight"] = module.weight.detach()
    return state
