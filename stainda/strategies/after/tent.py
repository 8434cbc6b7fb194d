"""Tent: entropy minimisation on one slide's tiles, over the affine parameters of normalisations, undone afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.after.base import Adapted, After
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.norm.statistics import Statistics


@register("after", "tent")
class Tent(After):
    """A few steps of lower entropy on each slide's own tiles, over scale and shift of the normalisations alone.

    Begun anew for every slide, and undone after it. Batch statistics are those of the tiles, during the steps and at
    prediction. Sure is not right: where the network is wrong on most of a slide, or objects are few, it can make
    matters worse, so it takes few steps.
    """

    reference: ClassVar[str] = "Wang et al. 2021, Tent: Fully Test-Time Adaptation, arXiv 2006.10726"
    needs_tiles: ClassVar[bool] = True

    steps: int = Field(10, ge=1, le=100, description="optimiser steps per slide, a batch of at most 16 tiles each")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="of Adam")

    @contextmanager
    def adapted(self, network: nn.Module, tiles: Sequence[Tensor], statistics: Statistics | None) -> Iterator[Adapted]:
        with surer(network, tiles, statistics, self.steps, self.learning_rate) as result:
            yield result


def mean_entropy(logits: Tensor) -> Tensor:
    """Mean over patches and pixels of ``-sum p ln p``; logits ``[N, K, ...]``."""
    logits = logits.float()
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


@contextmanager
def surer(
    network: nn.Module, tiles: Sequence[Tensor], statistics: Statistics | None, steps: int, learning_rate: float
) -> Iterator[Adapted]:
    """Inside the block scale and shift of the normalisations are those after some steps of lower entropy on the tiles.

    ``steps`` steps of Adam, each on one batch of ``tiles`` in turn; batch normalisations normalise by the batch, as in
    training, and their running statistics do not move. The result takes statistics estimated anew from all tiles.
    Afterwards every parameter, buffer and mode is as it was.
    """
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from stainda.strategies.norm.statistics import TooFewImages, estimate_statistics, single_values_refused

    kinds = (_BatchNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)
    affine = [
        parameter
        for layer in network.modules()
        if isinstance(layer, kinds)
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
        try:
            with single_values_refused():
                _descend(network, affine, tiles, steps, learning_rate)
            own = estimate_statistics(network, tiles) or None
            how = "batch statistics re-estimated from them" if own else "no batch statistics"
            count = sum(len(batch) for batch in tiles)
            note = f"adapted to {count} tiles of this slide by {steps} steps of lower entropy; {how}"
        except TooFewImages:
            own, note = (
                None if statistics is None else dict(statistics),
                "not adapted to the slide: one tile is too few",
            )
        yield Adapted(own, note)
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
    import torch

    from stainda.strategies.norm.frozen_statistics import quiet
    from stainda.strategies.norm.statistics import batchnorm_layers

    network.eval()
    network.requires_grad_(False)
    for parameter in affine:
        parameter.requires_grad_(True)
    for layer in batchnorm_layers(network).values():
        layer.train()
    optimiser = torch.optim.Adam(affine, lr=learning_rate)
    try:
        with torch.enable_grad(), quiet(network):
            for step in range(steps):
                loss = mean_entropy(network(tiles[step % len(tiles)]))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
    finally:
        network.eval()
