"""Networks of segmentation-models-pytorch, with its own encoders or any of timm's (``tu-`` before their name).

Named ``smp`` in model files. Nothing is ever downloaded: a network starts at random, or from the local safetensors
file named as ``weights``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from stainda.errors import ConfigError, did_you_mean
from stainda.models.base import SegmentationNetwork
from stainda.models.named_classes import CLASSES, with_classes

_OURS = {"self", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params", "kwargs"}
_OF_TIMM = {
    "img_size", "strict_img_size", "dynamic_img_size", "drop_rate", "drop_path_rate", "patch_size", "embed_dim",
    "num_heads", "mlp_ratio", "init_values", "reg_tokens", "no_embed_class", *CLASSES,
}  # fmt: skip


class SmpNetwork(SegmentationNetwork):
    """An encoder and a decoder of segmentation-models-pytorch.

    Nothing of theirs is changed: between encoder, decoder and head the tensors pass through two modules that do
    nothing, whose outputs are the ``bottleneck`` and ``decoder`` features of any of them.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        decoder: ``unet``, ``unetplusplus``, ``fpn``, ``deeplabv3plus``, ``linknet`` …
        encoder: of segmentation-models-pytorch (``resnet18``), or of timm (``tu-mobilenetv3_small_100``).
        options: further arguments of the decoder's class (``encoder_depth``, ``decoder_channels`` …) and, for
            encoders of timm, arguments of theirs (``img_size``, ``drop_path_rate``, ``mlp_layer`` …); words stand for
            classes (:mod:`stainda.models.named_classes`). A transformer takes patches of one size, ``img_size``, unless
            ``dynamic_img_size`` is set (Swin: ``strict_img_size: false``).

    Raises:
        ConfigError: an unknown decoder, encoder or option; ``encoder_weights`` (see above).
    """

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 2,
        *,
        decoder: str = "unet",
        encoder: str = "resnet18",
        **options: object,
    ) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        decoders = smp.MODEL_ARCHITECTURES_MAPPING
        if decoder not in decoders:
            raise ConfigError(f"unknown decoder {decoder!r}", remedy=did_you_mean(decoder, decoders))
        if options.get("encoder_weights") is not None:
            raise ConfigError(
                "'encoder_weights' would download a file; stainda does not",
                remedy="Name a local safetensors file as 'weights' of the model instead",
            )
        check_encoder(encoder)
        known = set(inspect.signature(decoders[decoder].__init__).parameters) - _OURS
        known |= _OF_TIMM if encoder.startswith("tu-") else set()
        if unknown := sorted(set(options) - known):
            raise ConfigError(
                f"decoder {decoder!r} has no option {unknown[0]!r}", remedy=did_you_mean(unknown[0], known)
            )
        options = {**with_classes(options), "encoder_weights": None, "in_channels": in_channels, "classes": n_classes}
        try:
            self.net = decoders[decoder](encoder_name=encoder, **options)
        except (TypeError, ValueError, KeyError, NotImplementedError) as error:
            if _is_of_one_scale(encoder):
                raise ConfigError(
                    f"decoder {decoder!r} takes maps of several scales, and encoder {encoder!r} gives tokens of one",
                    remedy="Take decoder linear or dpt, with name: encoder",
                ) from error
            raise ConfigError(
                f"segmentation-models-pytorch refuses decoder {decoder!r} with encoder {encoder!r}: {error}",
                remedy="Change the model's params",
            ) from error
        self.bottleneck, self.decoded = nn.Identity(), nn.Identity()
        self.in_channels, self.n_classes = in_channels, n_classes
        self.head_names = ("net.segmentation_head.",)
        self.encoder_names = ("net.encoder.",)
        self.handed_channels = int(self.net.encoder.out_channels[-1])
        self.stride, self.margin = int(self.net.encoder.output_stride), 0
        if decoder == "dpt":  # halves its coarsest map once more, without room for a remainder
            self.stride *= 2
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "decoded"}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, in_channels, H, W] to logits [N, n_classes, H, W]."""
        self.check_input(images)
        return self._decoded(*self._encoded(images))

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps, rest = self._encoded(images)
        if rest:
            raise ConfigError(
                "this decoder takes more than the encoder's maps", remedy="Take name: encoder with decoder: dpt"
            )
        return tuple(maps[1:])  # the first is the image itself, of which decoders read the size alone

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        coarsest, stride = features[-1], int(self.net.encoder.output_stride)
        size = [stride * int(side) for side in coarsest.shape[2:]]
        return self._decoded([coarsest.new_empty(len(coarsest), 0, *size), *features], [])

    def _encoded(self, images: torch.Tensor) -> tuple[list[torch.Tensor], list[Any]]:
        """The maps, and tokens of a transformer next to them."""
        try:
            maps = self.net.encoder(images)
        except AssertionError as error:
            raise ConfigError(
                f"the encoder does not take patches of {tuple(images.shape[2:])} pixels: {error}",
                remedy="Set dynamic_img_size: true in the model's params, or img_size to patches.size",
            ) from error
        rest: list[Any] = []
        if isinstance(maps, tuple):  # a transformer's encoder: maps, and the tokens next to them
            maps, *rest = maps
        return list(maps), rest

    def _decoded(self, maps: list[torch.Tensor], rest: list[Any]) -> torch.Tensor:
        features = [*maps[:-1], self.bottleneck(maps[-1])]
        decoded = self.decoded(self.net.decoder(features, *rest))
        return self.net.segmentation_head(decoded)


def _is_of_one_scale(encoder: str) -> bool:
    """Whether timm's network gives the same scale at every depth, as plain vision transformers do."""
    import timm

    if not encoder.startswith("tu-"):
        return False
    try:
        with torch.device("meta"):
            info = getattr(timm.create_model(encoder.removeprefix("tu-"), pretrained=False), "feature_info", None)
    except (NotImplementedError, RuntimeError):  # it reads numbers as it is built
        return False
    return isinstance(info, list) and len({scale["reduction"] for scale in info}) == 1


def timm_network(encoder: str, options: Mapping[str, Any], n_classes: int = 0, in_channels: int = 3) -> Any:
    """A network of timm with random weights; without classes it ends with its features.

    Args:
        options: further arguments of it; words stand for classes (:mod:`stainda.models.named_classes`).

    Raises:
        ConfigError: an option that timm refuses, or does not know.
    """
    import timm

    try:
        return timm.create_model(
            encoder, pretrained=False, num_classes=n_classes, in_chans=in_channels, **with_classes(options)
        )
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        raise ConfigError(
            f"timm refuses {encoder!r} with {dict(options)}: {error}", remedy="Change the model's options or params"
        ) from error


def check_encoder(encoder: str) -> None:
    """Refuse a word that is no encoder of segmentation-models-pytorch or (``tu-NAME``) of timm.

    Raises:
        ConfigError: the message names the nearest.
    """
    from segmentation_models_pytorch.encoders import encoders

    if encoder.startswith("tu-"):
        check_timm(encoder.removeprefix("tu-"))
    elif encoder not in encoders:
        raise ConfigError(
            f"unknown encoder {encoder!r}",
            remedy=did_you_mean(encoder, encoders) + ". Encoders of timm are written tu-NAME",
        )


def check_timm(name: str) -> None:
    """Refuse a word that is no network of timm.

    Raises:
        ConfigError: the message names the nearest.
    """
    import timm

    if not timm.is_model(name):
        raise ConfigError(
            f"timm has no network {name!r}",
            remedy=did_you_mean(name, timm.list_models(f"{name[:4]}*") or timm.list_models("*18*")),
        )
