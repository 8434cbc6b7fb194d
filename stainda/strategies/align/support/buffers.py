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


class RowMemory(nn.Module):
    """The latest ``size`` rows of the target, oldest overwritten first.

    Attributes:
        features: ``[size, C]``, of length 1. shares: ``[size, K]``, their predictions.
        written: rows ever written.
    """

    features: Tensor
    shares: Tensor
    written: Tensor

    def __init__(self, size: int, channels: int, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(size, channels))
        self.register_buffer("shares", torch.zeros(size, n_classes))
        self.register_buffer("written", torch.tensor(0))

    def read(self) -> tuple[Tensor, Tensor]:
        """Features and predictions of the rows there are."""
        filled = min(int(self.written), len(self.features))
        return self.features[:filled], self.shares[:filled]

    def write(self, features: Tensor, shares: Tensor) -> None:
        """Remember rows; of more than fit, the last."""
        features, shares = features[-len(self.features) :], shares[-len(self.features) :]
        slots = (torch.arange(len(features), device=features.device) + int(self.written)) % len(self.features)
        self.features[slots], self.shares[slots] = features.detach(), shares.detach()
        self.written += len(features)


class FrozenCopy(nn.Module):
    """A copy of a network that is never trained; taken once, when it is first requested."""

    taken: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False)
        self.register_buffer("taken", torch.tensor(False))

    def of(self, network: nn.Module) -> nn.Module:
        """The copy, with the weights ``network`` had at the first call."""
        if not bool(self.taken):
            self.network.load_state_dict(network.state_dict())
            self.taken.fill_(True)
        return self.network
