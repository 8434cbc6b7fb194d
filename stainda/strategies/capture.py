"""Outputs of layers of one forward pass: read, or changed on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from stainda.strategies.features import find_layer


@contextmanager
def listening(network: nn.Module, layers: Sequence[str]) -> Iterator[list[Tensor]]:
    """Inside the block the list fills with the layers' outputs (float32, attached to the graph) as the network runs.

    The list is in the order of ``layers``, whatever the order in which the network comes to them.

    Raises:
        ConfigError: the network has no such layer.
    """
    result: dict[str, Tensor] = {}
    seen: list[Tensor] = []
    handles = []
    for layer in layers:

        def read(_module: nn.Module, _inputs: object, output: Any, layer: str = layer) -> None:
            result[layer] = (output[-1] if isinstance(output, list | tuple) else output).float()

        handles.append(find_layer(network, layer).register_forward_hook(read))
    try:
        yield seen
        seen.extend(result[layer] for layer in layers)
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def changing(network: nn.Module, layer: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block what follows a layer gets ``change(output)`` in place of the layer's output.

    Raises:
        ConfigError: the network has no such layer.
    """
    handle = find_layer(network, layer).register_forward_hook(lambda _module, _inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()
