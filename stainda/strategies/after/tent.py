"""Entropy minimisation on one slide's tiles, over the affine parameters of normalisations, and undone afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stainda.strategies.after.base import Adapted
from stainda.strategies.norm.statistics import Statistics, batchnorm_layers, estimate_statistics

_KINDS = (_BatchNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)


def mean_entropy(logits: Tensor) -> Tensor:
    """Mean over patches and pixels of ``-sum p ln p``; logits ``[N, K, ...]``."""
    logits = logits.float()
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


@contextmanager
def surer(
    network: nn.Module, tiles: Sequence[Tensor], statistics: Statistics | None, steps: int, learning_rate: float
) -> Iterator[Adapted]:
    """Inside the block scale and shift of the normalisations are those of the lowest entropy reached on the tiles.

    ``steps`` steps of Adam, each on one batch of ``tiles`` in turn; batch normalisations normalise by the batch, as in
    training, and their running statistics do not move. The result takes statistics estimated anew from all tiles.
    Afterwards every parameter, buffer and mode is as it was.
    """
    affine = [
        parameter
        for layer in network.modules()
        if isinstance(layer, _KINDS)
        for parameter in layer.parameters(recurse=False)
    ]
    if not affine or not tiles:
        reason = "no tissue to adapt on" if affine else "the network has no normalisation with scale and shift"
        yield Adapted(statistics, f"not adapted to the slide: {reason}")
        return
    kept = [parameter.detach().clone() for parameter in affine]
    wanted = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    was_training = network.training
    try:
        _descend(network, affine, tiles, steps, learning_rate)
        own = estimate_statistics(network, tiles) or None
        how = "batch statistics re-estimated from them" if own else "no batch statistics"
        count = sum(len(batch) for batch in tiles)
        yield Adapted(own, f"adapted to {count} tiles of this slide by {steps} steps of lower entropy; {how}")
    finally:
        with torch.no_grad():
            for parameter, value in zip(affine, kept, strict=True):
                parameter.copy_(value)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(wanted[name])
            parameter.grad = None
        network.train(was_training)


def _descend(
    network: nn.Module, affine: list[nn.Parameter], tiles: Sequence[Tensor], steps: int, learning_rate: float
) -> None:
    network.eval()
    network.requires_grad_(False)
    for parameter in affine:
        parameter.requires_grad_(True)
    layers = batchnorm_layers(network)
    momenta = {name: layer.momentum for name, layer in layers.items()}
    counted = {name: layer.num_batches_tracked.clone() for name, layer in layers.items()}  # type: ignore[union-attr]
    for layer in layers.values():
        layer.momentum = 0.0
        layer.train()
    optimiser = torch.optim.Adam(affine, lr=learning_rate)
    try:
        with torch.enable_grad():
            for step in range(steps):
                loss = mean_entropy(network(tiles[step % len(tiles)]))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
    finally:
        for name, layer in layers.items():
            layer.momentum = momenta[name]
            layer.num_batches_tracked.copy_(counted[name])  # type: ignore[union-attr]
        network.eval()
