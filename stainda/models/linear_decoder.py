"""Segmentation with one linear layer on an encoder's last map: for any encoder, and fast on kept features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from stainda.errors import ConfigError
from stainda.models.base import SegmentationNetwork
from stainda.models.pretrained import check_encoder, timm_network


class LinearDecoder(SegmentationNetwork):
    """An encoder, batch normalisation, a convolution of 1 x 1, and bilinear up-sampling: ``linear`` in model files.

    The map is the encoder's coarsest: of a transformer its patch tokens after the last normalisation, without class
    token and registers. Objects of the size of a token and less are lost; take ``dpt`` for transformers, or ``unet``
    and others for encoders of several scales, where that matters.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        encoder: name of timm (``vit_small_patch16_224``, ``resnet18`` …), or one that segmentation-models-pytorch alone
            has (``mit_b0``).
        options: further arguments of timm's network; words stand for classes (:mod:`stainda.models.named_classes`).

    Raises:
        ConfigError: an unknown encoder or option, or an encoder whose features are no map.

    Reference: the linear segmentation evaluation of Oquab et al. 2023, DINOv2, arXiv 2304.07193.
    """

    encoder: Any

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 2,
        *,
        encoder: str = "vit_small_patch16_224",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        import timm

        self.encoder_name, self._of_timm = encoder, timm.is_model(encoder)
        if self._of_timm:
            self._take_from_timm(in_channels, dict(options or {}))
        else:
            self._take_from_smp(in_channels, dict(options or {}))
        self.bottleneck, self.decoded = nn.Identity(), nn.BatchNorm2d(self.handed_channels)
        self.head = nn.Conv2d(self.handed_channels, n_classes, 1)
        self.in_channels, self.n_classes, self.margin = in_channels, n_classes, 0
        self.head_names, self.encoder_names = ("head.",), ("encoder.",)
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "decoded"}

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The coarsest map alone."""
        try:
            features = self.encoder.forward_features(images) if self._of_timm else self.encoder(images)[-1]
        except AssertionError as error:
            raise ConfigError(
                f"the encoder {self.encoder_name!r} does not take patches of {tuple(images.shape[2:])} pixels: {error}",
                remedy="Set dynamic_img_size: true in the model's options, or img_size to patches.size",
            ) from error
        rows, columns = (int(side) // self.stride for side in images.shape[2:])
        width = self.handed_channels
        if features.ndim == 3:
            tokens = features[:, int(getattr(self.encoder, "num_prefix_tokens", 0)) :]
            if tokens.shape[1] == rows * columns:
                return (tokens.transpose(1, 2).unflatten(2, (rows, columns)),)
        elif features.ndim == 4 and features.shape[1] == width:
            return (features,)
        elif features.ndim == 4 and features.shape[-1] == width:
            return (features.permute(0, 3, 1, 2),)
        raise ConfigError(
            f"the features of {self.encoder_name!r} are no map of {rows} x {columns}: {tuple(features.shape)}",
            remedy="Take another encoder",
        )

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        seen = self.bottleneck(features[0])
        size = [self.stride * int(side) for side in seen.shape[2:]]
        return interpolate(self.head(self.decoded(seen)), size=size, mode="bilinear", align_corners=False)

    def _take_from_timm(self, in_channels: int, options: dict[str, Any]) -> None:
        self.encoder = timm_network(self.encoder_name, options, in_channels=in_channels)
        info = getattr(self.encoder, "feature_info", None)
        if not isinstance(info, list) or not info:
            raise ConfigError(
                f"timm does not give the scale of {self.encoder_name!r}, which decoder linear needs",
                remedy="Take another encoder",
            )
        self.stride, self.handed_channels = int(info[-1]["reduction"]), int(self.encoder.num_features)

    def _take_from_smp(self, in_channels: int, options: dict[str, Any]) -> None:
        from segmentation_models_pytorch.encoders import get_encoder

        check_encoder(self.encoder_name)
        if options:
            raise ConfigError(
                f"encoder {self.encoder_name!r} takes no options", remedy=f"Leave out {', '.join(options)}"
            )
        self.encoder = get_encoder(self.encoder_name, in_channels=in_channels, weights=None)
        self.stride, self.handed_channels = int(self.encoder.output_stride), int(self.encoder.out_channels[-1])
