"""Further maps next to a network's class scores, read by the name of a layer as all features are."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from stainda.models.base import Network

MAPS = "maps"
"""Path of the module that the further maps pass through (``FeatureTap`` and ``listening`` read it)."""


def add_maps(network: Network, channels: int) -> None:
    """Let the last ``channels`` of a network's output be maps: ``forward`` then gives the class scores alone.

    What acts on scores (align parts, Tent, validation) so sees classes and nothing else. ``answer`` gives all channels.
    """
    network.n_classes -= channels
    network.add_module(MAPS, nn.Identity())
    network.register_forward_hook(partial(_divide, channels))


def _divide(channels: int, network: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    network.get_submodule(MAPS)(output[:, -channels:])
    return output[:, :-channels]
