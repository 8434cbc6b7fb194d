"""Segmentation with a transformer of one scale (ViT): its tokens at several depths, fused by the decoder of DPT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import interpolate

from stainda.errors import ConfigError
from stainda.models.base import SegmentationNetwork
from stainda.models.pretrained import check_timm, timm_network

_TAKEN = 4


class DenseTransformer(SegmentationNetwork):
    """A vision transformer of timm with the decoder of DPT, named ``dpt`` in model files.

    The decoder is that of segmentation-models-pytorch, made for tokens of 16 pixels; whatever the size of the tokens,
    its map is brought to that of the image at the end, so that encoders with tokens of 14 pixels fit. Tokens are taken
    after four blocks, evenly spaced.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        encoder: name of timm (``vit_small_patch16_224`` …).
        options: further arguments of timm's network; words stand for classes (:mod:`stainda.models.named_classes`).
            Without ``dynamic_img_size: true`` patches have one size, ``img_size``.
        readout: what becomes of the class token: ``cat``, ``add`` or ``ignore``.
        intermediate_channels: of the four maps before they are fused.
        fusion_channels: of the fused map.

    Raises:
        ConfigError: an unknown encoder or option, or an encoder that gives no tokens of one scale.

    Reference: Ranftl et al. 2021, Vision Transformers for Dense Prediction, arXiv 2103.13413.
    """

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 2,
        *,
        encoder: str = "vit_small_patch16_224",
        options: Mapping[str, Any] | None = None,
        readout: Literal["cat", "add", "ignore"] = "ignore",
        intermediate_channels: Sequence[int] = (128, 128, 128, 128),
        fusion_channels: int = 128,
    ) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder

        check_timm(encoder)
        self.encoder_name = encoder
        self.encoder = _transformer(encoder, in_channels, options or {})
        info = self.encoder.feature_info
        self._blocks = [len(info) * (i + 1) // _TAKEN - 1 for i in range(_TAKEN)]
        self._prefix = int(getattr(self.encoder, "num_prefix_tokens", 0))
        width, patch = int(info[-1]["num_chs"]), int(info[-1]["reduction"])
        self.decoder = DPTDecoder(
            [width] * _TAKEN, [16] * _TAKEN, self._prefix > 0, readout, tuple(intermediate_channels), fusion_channels
        )
        self.bottleneck, self.decoded = nn.Identity(), nn.Identity()
        self.head = nn.Sequential(
            nn.Conv2d(fusion_channels, fusion_channels, 3, padding=1, bias=False), nn.BatchNorm2d(fusion_channels),
            nn.ReLU(inplace=True), nn.Conv2d(fusion_channels, n_classes, 1),
        )  # fmt: skip
        self.in_channels, self.n_classes, self._patch = in_channels, n_classes, patch
        self.head_names, self.encoder_names, self.handed_channels = ("head.3.",), ("encoder.",), width
        self.stride, self.margin = 2 * patch, 0  # the decoder halves the map of tokens once
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "decoded"}

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps after four blocks, then the tokens next to each, where there are any."""
        size = (int(images.shape[2]), int(images.shape[3]))
        try:
            taken = self.encoder.forward_intermediates(
                images, indices=self._blocks, intermediates_only=True, return_prefix_tokens=self._prefix > 0
            )
        except AssertionError as error:
            raise ConfigError(
                f"timm's {self.encoder_name!r} does not take patches of {size} pixels: {error}",
                remedy="Set dynamic_img_size: true in the model's options, or img_size to patches.size",
            ) from error
        return tuple(layer[0] for layer in taken) + tuple(layer[1] for layer in taken) if self._prefix else tuple(taken)

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        maps = list(features[:_TAKEN])
        tokens: list[torch.Tensor | None] = [*features[_TAKEN:]] or [None] * _TAKEN
        size = [self._patch * int(side) for side in maps[0].shape[2:]]
        maps[-1] = self.bottleneck(maps[-1])
        fused = self.decoded(self.decoder(maps, tokens))
        return interpolate(self.head(fused), size=size, mode="bilinear", align_corners=False)


def _transformer(encoder: str, in_channels: int, options: Mapping[str, Any]) -> Any:
    transformer = timm_network(encoder, options, in_channels=in_channels)
    info = getattr(transformer, "feature_info", None)
    scales = {scale["reduction"] for scale in info} if isinstance(info, list) else set()
    if len(scales) != 1 or not hasattr(transformer, "forward_intermediates"):
        raise ConfigError(
            f"timm's {encoder!r} gives no tokens of one scale, which decoder dpt takes",
            remedy="Take decoder unet, or another encoder",
        )
    return transformer
