"""Patch classifiers of timm, by name. Nothing is ever downloaded: see :mod:`stainda.models.pretrained`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from stainda.errors import ConfigError, did_you_mean
from stainda.models.base import ClassificationNetwork
from stainda.models.pretrained import check_timm, timm_network

Pooling = Literal["class", "patches", "class_and_patches"]
"""What a transformer's tokens become: the class token, the mean of the patch tokens, or the one behind the other.

Registers belong to neither.
"""

_OURS = ("pretrained", "num_classes", "in_chans", "checkpoint_path", "features_only")


class TimmClassifier(ClassificationNetwork):
    """A network of timm that answers for a whole patch.

    Nothing of it is changed. Its last feature map (of a transformer: its patch tokens, laid out as a map, without
    class tokens) and the vector that its last layer reads pass through two modules that do nothing, whose outputs are
    the ``bottleneck`` and ``decoder`` features of any of them.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        encoder: name of timm (``resnet18``, ``convnext_atto``, ``vit_tiny_patch16_224`` …).
        pooling: of a transformer's tokens, after its last normalisation, as its publisher does it; default: timm's
            ``global_pool``.
        options: further arguments of timm's network (``drop_rate``, ``drop_path_rate``, ``global_pool`` …). A
            transformer takes patches of one size only, ``img_size``, unless ``dynamic_img_size`` is set: then any
            multiple of its tokens. Words stand for classes (:mod:`stainda.models.named_classes`).

    Raises:
        ConfigError: an unknown network or option; ``pretrained`` (name a local file as ``weights`` instead); a pooling
            of tokens that the network does not have.
    """

    net: Any

    def __init__(
        self, in_channels: int = 3, n_classes: int = 2, *, encoder: str = "resnet18", pooling: Pooling | None = None,
        **options: object,
    ) -> None:  # fmt: skip
        super().__init__()

        check_timm(encoder)
        if taken := [key for key in _OURS if key in options]:
            raise ConfigError(
                f"{taken[0]!r} of a timm network is not yours to set",
                remedy="Name a local safetensors file as 'weights' of the model to start from it",
            )
        self.net = timm_network(encoder, options, n_classes, in_channels)
        head = getattr(self.net, "forward_head", None)
        if head is None or "pre_logits" not in inspect.signature(head).parameters:
            raise ConfigError(
                f"timm's {encoder!r} does not part its features from its classes",
                remedy="Take another network, for example resnet18, convnext_atto or mobilenetv3_small_100",
            )
        self.encoder_name = encoder
        self.bottleneck, self.decoded = nn.Identity(), nn.Identity()
        self.in_channels, self.n_classes = in_channels, n_classes
        info = getattr(self.net, "feature_info", None)
        self.smallest = int(info[-1]["reduction"]) if info else 32
        if getattr(self.net, "dynamic_img_size", False):
            self.stride = self.smallest
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "decoded"}
        named = (getattr(self.net, "default_cfg", None) or {}).get("classifier") or ()
        heads = (named,) if isinstance(named, str) else tuple(named)
        self.head_names = tuple(f"net.{head}." for head in heads) or ("net.head.",)
        self.encoder_names, self.handed_on = ("net.",), "decoded"
        self.handed_channels = int(getattr(self.net, "head_hidden_size", None) or self.net.num_features)
        self._pooling = pooling
        if pooling is not None:
            self._pool_as(pooling)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        try:
            features = self.net.forward_features(images)
        except AssertionError as error:
            raise ConfigError(
                f"timm's {self.encoder_name!r} does not take patches of {tuple(images.shape[2:])} pixels: {error}",
                remedy="Set patches.size to what it takes, or img_size of the model's params to patches.size",
            ) from error
        self.bottleneck(self._as_map(features))
        if self._pooling is None:
            return (self.net.forward_head(features, pre_logits=True),)
        return (self.net.head_drop(pooled_tokens(features, self._pooling, self.net.num_prefix_tokens)),)

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.net.get_classifier()(self.decoded(features[0]))

    def _pool_as(self, pooling: str) -> None:
        if pooling not in get_args(Pooling):
            raise ConfigError(f"unknown pooling {pooling!r}", remedy=did_you_mean(pooling, get_args(Pooling)))
        network = self.net
        lacks = not getattr(network, "num_prefix_tokens", 0) or getattr(network, "cls_token", None) is None
        if (lacks and pooling != "patches") or not isinstance(getattr(network, "fc_norm", None), nn.Identity):
            raise ConfigError(
                f"pooling {pooling!r} takes tokens after the last normalisation, which timm's {self.encoder_name!r} "
                "does not give",
                remedy="Leave pooling out; or take a transformer with a class token, and global_pool: token",
            )
        if pooling == "class_and_patches":
            self.handed_channels = 2 * int(network.num_features)
            network.head = nn.Linear(self.handed_channels, self.n_classes)
            nn.init.trunc_normal_(network.head.weight, std=0.02)
            nn.init.zeros_(network.head.bias)

    def _as_map(self, features: torch.Tensor) -> torch.Tensor:
        """Features as [N, C, h, w], whether they come so, with channels last, or as tokens [N, L, C]."""
        width = self.net.num_features
        if features.ndim == 3:
            tokens = features[:, getattr(self.net, "num_prefix_tokens", 0) :]
            side = math.isqrt(tokens.shape[1])
            height = side if side * side == tokens.shape[1] else 1
            return tokens.transpose(1, 2).unflatten(2, (height, -1))
        if features.ndim == 4 and features.shape[1] != width and features.shape[-1] == width:
            return features.permute(0, 3, 1, 2)
        return features if features.ndim == 4 else features[:, :, None, None]


def pooled_tokens(tokens: torch.Tensor, pooling: Pooling, prefix: int) -> torch.Tensor:
    """One vector ``[N, C]`` (or ``[N, 2 C]``) of tokens ``[N, prefix + patches, C]``.

    Args:
        prefix: number of tokens before those of patches: the class token, then registers.
    """
    patches = tokens[:, prefix:].mean(1)
    if pooling == "patches":
        return patches
    return tokens[:, 0] if pooling == "class" else torch.cat([tokens[:, 0], patches], dim=1)
