"""What a part remembers between steps, as buffers: kept with the training's checkpoint, not trained."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    """Named tensors: ``Memory(q=torch.ones(3)).of("q")``."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, value in tensors.items():
            self.register_buffer(name, value)

    def of(self, name: str) -> Tensor:
        """The tensor of this name, to be changed in place."""
        return self.get_buffer(name)


class Copy(nn.Module):
    """A copy of a network that no gradient reaches.

    ``follow(network, keep)``: every parameter becomes ``keep · copy + (1 - keep) · network``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    @torch.no_grad()
    def follow(self, network: nn.Module, keep: float) -> None:
        for own, other in zip(self.network.parameters(), network.parameters(), strict=True):
            own.mul_(keep).add_(other.detach(), alpha=1.0 - keep)

    def weights(self) -> dict[str, Tensor]:
        """The parameters by the names the network has for them."""
        return {name: value.detach().clone() for name, value in self.network.named_parameters()}
