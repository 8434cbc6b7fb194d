"""Whether what a network says of a pixel depends on pixels around it alone, or on the image as a whole.

A network of convolutions, pooling and fixed batch statistics gives the same answer for a pixel in a small image and in
a large one, but for pixels near the rim. Means over the image (group and instance normalisation, squeeze and
excitation), attention and position embeddings make the answer depend on how large the image is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from stainda.models.base import Network

_LOCAL = frozenset((
    "conv2d", "conv_transpose2d", "batch_norm", "max_pool2d", "boolean_dispatch", "max_unpool2d", "avg_pool2d",
    "interpolate", "pad",
    "relu", "relu_", "leaky_relu", "relu6", "hardtanh", "hardswish", "silu", "gelu", "elu", "sigmoid", "dropout",
    "dropout2d", "add", "__add__", "__iadd__", "add_", "cat", "layer_norm", "linear", "permute", "contiguous",
    "__getitem__", "__get__", "size", "dim", "requires_grad", "_assert",
))  # fmt: skip
"""Functions of torch that mix pixels of a bounded neighbourhood at most, as networks of images use them. Products of
two tensors are none of them: a factor may come from the whole image."""


class _Watch(TorchFunctionMode):
    """Notes functions that are not known to be local."""

    def __init__(self) -> None:
        super().__init__()
        self.others: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        kwargs = kwargs or {}
        batch_counts = name == "batch_norm" and kwargs.get("training", len(args) > 5 and args[5])
        if name not in _LOCAL or batch_counts or (name == "layer_norm" and len(args[1]) > 1):
            self.others.add(name)
        return func(*args, **kwargs)


def looks_locally(network: Network) -> bool:
    """Whether a network in evaluation sees a bounded neighbourhood of each pixel, for all that its operations say.

    One image of the smallest size passes through it. Where an operation is not known, the answer is no.
    """
    parameter = next(network.parameters())
    side = network.input_size(max(network.minimum_size, 2 * network.stride))
    image = torch.zeros(1, network.in_channels, side, side, device=parameter.device, dtype=parameter.dtype)
    training = network.training
    watch = _Watch()
    with torch.no_grad(), watch:
        network.eval()(image)
    network.train(training)
    return not watch.others
