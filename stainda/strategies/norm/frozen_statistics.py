"""Looking at a network in training without leaving a trace in its running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from stainda.strategies.norm.statistics import batchnorm_layers


@contextmanager
def quiet(network: nn.Module) -> Iterator[None]:
    """Inside the block batch normalisation normalises as it does now (by the batch, in training) and remembers
    nothing."""
    layers = [layer for layer in batchnorm_layers(network).values() if layer.training]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
        layer.num_batches_tracked = None  # not counted either
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count
