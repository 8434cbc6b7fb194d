"""Encoders by name: one model file serves segmentation, with a decoder, and patch classification, with a last layer.

A model file with ``name: encoder`` holds ``encoder`` (a network of timm, or one that segmentation-models-pytorch alone
has), ``options`` (further arguments of it, as its publisher gives them), ``pooling`` (how its publisher makes one
vector of its tokens, for classification), ``decoder`` and ``decoder_options``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from stainda.config import ModelConfig
from stainda.errors import ConfigError, did_you_mean

NAME = "encoder"
PARAMS = ("encoder", "options", "pooling", "decoder", "decoder_options")


def as_network(config: ModelConfig, task: str | None) -> ModelConfig:
    """The model with the network that its encoder becomes for a kind of task; other models as they are.

    Segmentation: ``dpt`` with decoder ``dpt`` (for transformers of one scale), ``linear`` with decoder ``linear`` (for
    any), else ``smp`` with that decoder.
    Classification: ``timm``.

    Raises:
        ConfigError: an unknown parameter or encoder (the nearest is named), or an encoder that timm lacks asked to
            classify.
    """
    if config.name != NAME:
        return config
    params = config.params
    if unknown := [key for key in params if key not in PARAMS]:
        raise ConfigError(f"network 'encoder' has no parameter {unknown[0]!r}", remedy=did_you_mean(unknown[0], PARAMS))
    encoder, options = str(params.get("encoder", "")), dict(params.get("options") or {})
    of_timm = _of_timm(encoder)
    if task == "classification":
        if not of_timm:
            raise ConfigError(
                f"encoder {encoder!r} is for segmentation, and the task is classification",
                remedy="Take a model whose encoder is a network of timm",
            )
        pooling = {"pooling": params["pooling"]} if params.get("pooling") else {}
        return config.model_copy(update={"name": "timm", "params": {"encoder": encoder, **pooling, **options}})
    decoder, rest = params.get("decoder", "unet"), dict(params.get("decoder_options") or {})
    if decoder == "linear":
        if rest:
            raise ConfigError(
                f"decoder linear has no options, and decoder_options has {', '.join(rest)}",
                remedy="Set decoder_options: null",
            )
        return config.model_copy(update={"name": "linear", "params": {"encoder": encoder, "options": options}})
    if decoder == "dpt":
        written = {"encoder": encoder, "options": options, **rest}
        return config.model_copy(update={"name": "dpt", "params": written})
    written = {"decoder": decoder, "encoder": f"tu-{encoder}" if of_timm else encoder, **rest, **options}
    return config.model_copy(update={"name": "smp", "params": written})


def build_encoder(config: ModelConfig) -> nn.Module:
    """The encoder alone, from RGB, at random, its tensors named as they are published.

    Under ``torch.device("meta")`` those of timm take neither memory nor time.

    Raises:
        ConfigError: the model is not of ``name: encoder`` nor one that names an encoder, or timm refuses it.
    """
    params: dict[str, Any] = dict(config.params)
    encoder = str(params.pop("encoder", "")).removeprefix("tu-")
    if config.name == NAME:
        options = dict(params.get("options") or {})
    elif config.name == "timm":
        options = {key: value for key, value in params.items() if key != "pooling"}
    else:
        options = {}
    if not encoder:
        raise ConfigError(f"network {config.name!r} has no encoder", remedy="Name a model that has one")
    if not _of_timm(encoder):
        from segmentation_models_pytorch.encoders import get_encoder

        with torch.device("cpu"):  # theirs read numbers of tensors, which the meta device has none of
            return get_encoder(encoder, weights=None)
    from stainda.models.pretrained import timm_network

    network: nn.Module = timm_network(encoder, options)
    return network


def _of_timm(encoder: str) -> bool:
    """Whether timm has the encoder; a word that neither it nor segmentation-models-pytorch knows is refused."""
    import timm

    from stainda.models.pretrained import check_encoder

    if timm.is_model(encoder):
        return True
    check_encoder(encoder)
    return False
