"""Classifiers that torchvision has and timm has not: GoogLeNet."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from stainda.errors import ConfigError, did_you_mean
from stainda.models.base import ClassificationNetwork
from stainda.models.blocks import check_dropout

NETWORKS = {"googlenet": 15, "inception_v3": 75}
"""By torchvision's names, with the least height and width that their poolings leave a pixel of."""


class TorchvisionClassifier(ClassificationNetwork):
    """A network of torchvision that answers for a whole patch; its tensors are named as torchvision's files name them.

    Without the auxiliary classifiers, which both papers (Szegedy et al. 2015, arXiv 1409.4842, and 2016, arXiv
    1512.00567) take off after training. The last feature map is the ``bottleneck``, the vector that the last layer
    reads is ``decoder``.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        encoder: ``googlenet`` or ``inception_v3``.
        dropout: share of the features before the last layer that is dropped in training.

    Raises:
        ConfigError: an unknown network, or a value outside its range.
    """

    net: nn.Module

    def __init__(
        self, in_channels: int = 3, n_classes: int = 2, *, encoder: str = "googlenet", dropout: float = 0.2
    ) -> None:
        super().__init__()
        from torchvision.models import get_model

        if encoder not in NETWORKS:
            raise ConfigError(f"unknown network {encoder!r} of torchvision", remedy=did_you_mean(encoder, NETWORKS))
        check_dropout(encoder, dropout)
        self.net = get_model(
            encoder, weights=None, num_classes=n_classes, aux_logits=False, init_weights=True, dropout=dropout
        )
        if in_channels != 3:
            _take_channels(self.net, in_channels)
        self.in_channels, self.n_classes, self.smallest = in_channels, n_classes, NETWORKS[encoder]
        self.bottleneck, self.decoded = nn.Identity(), nn.Identity()
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "decoded"}
        self.head_names, self.encoder_names, self.handed_on = ("net.fc.",), ("net.",), "decoded"
        self.handed_channels = self.net.get_submodule("fc").get_parameter("weight").shape[1]

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The last feature map, averaged over its places: in torchvision's own order of its layers."""
        x = images
        for name, layer in self.net.named_children():
            if name == "avgpool":
                break
            x = layer(x)
        return (torch.flatten(self.net.get_submodule("avgpool")(self.bottleneck(x)), 1),)

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.net.get_submodule("fc")(self.net.get_submodule("dropout")(self.decoded(features[0])))


def _take_channels(network: nn.Module, in_channels: int) -> None:
    """Give the first convolution another number of input channels."""
    path, first = next((path, layer) for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d))
    parent, _, name = path.rpartition(".")
    layer = copy.deepcopy(first)
    layer.in_channels = in_channels
    layer.weight = nn.Parameter(first.weight.new_empty(first.out_channels, in_channels, *first.kernel_size))
    layer.reset_parameters()
    setattr(network.get_submodule(parent), name, layer)
