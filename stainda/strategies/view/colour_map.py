"""A learned map of colours in front of a network, trained and saved with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ColourMap(nn.Module):
    """``x + f(x)`` per pixel; f is one or two 1 x 1 convolutions, zero at the start."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        last = nn.Conv2d(hidden or channels, channels, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        first = [nn.Conv2d(channels, hidden, 1), nn.ReLU()] if hidden else []
        self.change = nn.Sequential(*first, last)

    def forward(self, images: Tensor) -> Tensor:
        return images + self.change(images)


def put_before(network: nn.Module, channels: int, hidden: int) -> None:
    """Make ``network.colour_map`` a part of the network that its input goes through first.

    The draws of the map's start leave torch's generator where it was, so that networks with and without one begin from
    the same weights elsewhere.
    """
    with torch.random.fork_rng(devices=[]):
        network.colour_map = ColourMap(channels, hidden)
    network.register_forward_pre_hook(_mapped)


def _mapped(network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (network.get_submodule("colour_map")(inputs[0]), *inputs[1:])
