"""Features of a network by the name of a layer, without changing the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from stainda.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn


_EARLY = ("encoder.0", "encoder.layer1", "encoder.model.layer1", "layer1", "stages.0")


class _Reached(Exception):
    """The layer has been passed; the rest of the forward pass is not wanted."""


def find_layer(network: nn.Module, layer: str) -> nn.Module:
    """The module named ``layer``: a key of ``network.default_layers`` (``bottleneck``, ``decoder``) or a module path.

    ``early`` is a network's first block: the first level of its encoder, or its first normalisation.

    Raises:
        ConfigError: the network has no such layer; the nearest is named.
    """
    modules = dict(network.named_modules())
    aliases: dict[str, str] = dict(getattr(network, "default_layers", {}))
    path = aliases.get(layer, layer)
    if path == "early":
        path = _early(modules) or path
    if path not in modules or not path:
        options = [*aliases, *(name for name in modules if name)]
        raise ConfigError(f"the network has no layer {layer!r}", remedy=did_you_mean(layer, options[:60]))
    return modules[path]


def _early(modules: dict[str, nn.Module]) -> str | None:
    """Path of a network's first block."""
    from torch import nn

    kinds = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.InstanceNorm2d)
    norms = (name for name, module in modules.items() if isinstance(module, kinds))
    return next((name for name in _EARLY if name in modules), None) or next(norms, None)


class FeatureTap:
    """Reads the output of one layer while the network runs.

    ::

        tap = FeatureTap(network, "bottleneck")
        logits, features = tap(images)
        features = tap.until(images)   # stops there: the decoder is not computed

    Features come as float32 ``[N, C, h, w]`` (or ``[N, C]``), also under bf16 autocast, attached to the graph.
    """

    def __init__(self, network: nn.Module, layer: str, forward: Any = None) -> None:
        self._layer = find_layer(network, layer)
        self._forward = network if forward is None else forward

    def __call__(self, images: Any) -> tuple[Tensor, Tensor]:
        """Logits ``[N, n_classes, H, W]`` and features of the layer; ``images`` are what ``forward`` takes."""
        with self._listen(stop=False) as seen:
            logits = self._forward(images)
        return logits, seen[-1].float()

    def through(self, forward: Any) -> FeatureTap:
        """The same layer, read while ``forward`` runs the network another way."""
        other = FeatureTap.__new__(FeatureTap)
        other._layer, other._forward = self._layer, forward
        return other

    def until(self, images: Tensor) -> Tensor:
        """Features of the layer alone; nothing behind the layer is computed."""
        with self._listen(stop=True) as seen, suppress(_Reached):
            self._forward(images)
        return seen[-1].float()

    @contextmanager
    def _listen(self, stop: bool) -> Iterator[list[Tensor]]:
        seen: list[Tensor] = []

        def read(_module: nn.Module, _inputs: object, output: Any) -> None:
            seen.append(output[-1] if isinstance(output, list | tuple) else output)
            if stop:
                raise _Reached

        handle = self._layer.register_forward_hook(read)
        try:
            yield seen
        finally:
            handle.remove()


def pooled(features: Tensor) -> Tensor:
    """Global average over space: ``[N, C, h, w]`` to ``[N, C]``; ``[N, C]`` as it is."""
    return features if features.dim() == 2 else features.flatten(2).mean(2)
