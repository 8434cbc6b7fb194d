"""Building a network from its name and parameters."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

from torch import nn

from stainda.config import ModelConfig, available, load_piece
from stainda.errors import ConfigError, did_you_mean
from stainda.models.base import Network
from stainda.models.cnn import Cnn
from stainda.models.dense_transformer import DenseTransformer
from stainda.models.encoders import NAME, as_network
from stainda.models.fcn import Fcn
from stainda.models.handcrafted import HandcraftedCnn
from stainda.models.lenet import LeNet5
from stainda.models.linear_decoder import LinearDecoder
from stainda.models.pangnet import PangNet
from stainda.models.pretrained import SmpNetwork
from stainda.models.timm_classifier import TimmClassifier
from stainda.models.torchvision_classifier import TorchvisionClassifier
from stainda.models.two_stage import FasterRcnn, MaskRcnn, TwoStageNetwork
from stainda.models.unet import UNet
from stainda.models.unpooling import DeconvNet, SegNet
from stainda.models.weight_files import weights_at_hand
from stainda.models.weights import load_weights

NETWORKS: dict[str, type[Network]] = {
    "unet": UNet, "smp": SmpNetwork, "dpt": DenseTransformer, "linear": LinearDecoder,
    "fcn": Fcn, "segnet": SegNet, "deconvnet": DeconvNet,
    "pangnet": PangNet, "cnn": Cnn, "timm": TimmClassifier, "torchvision": TorchvisionClassifier, "lenet5": LeNet5,
    "cnn_handcrafted": HandcraftedCnn, "mask_rcnn": MaskRcnn, "faster_rcnn": FasterRcnn,
}  # fmt: skip
"""Next to these, ``encoder`` names the network that an encoder becomes for the task (``encoders.as_network``)."""


def build_model(config: ModelConfig, in_channels: int, n_classes: int, task: str | None = None) -> Network:
    """The network of a model file, started from torch's random generator or from ``config.weights``.

    Weights that are optional and not here leave the random start (``weight_files.missing_weights`` tells). Those of a
    training of another study (``weights_part``) are put in by :func:`~stainda.models.transferred.transfer`.

    Args:
        config: ``name`` is a key of ``NETWORKS``, whose constructor gets the ``params``, or ``encoder``.
        in_channels: channels of the strategy's view (3, or 1 for greyscale).
        n_classes: classes, the background counted.
        task: kind of task it is for (``segmentation``, ``classification``); ``None`` takes any.

    Raises:
        ConfigError: unknown network or parameter (the nearest is named), a wrong value, a network for another kind of
            task, or weights that are not here.
    """
    config = as_network(config, task)
    if config.name not in NETWORKS:
        raise ConfigError(f"unknown network {config.name!r}", remedy=did_you_mean(config.name, (*NETWORKS, NAME)))
    network = NETWORKS[config.name]
    if task is not None and network.task != task:
        one_stage = {name: entry for name, entry in NETWORKS.items() if not issubclass(entry, TwoStageNetwork)}
        fitting = [*(name for name, entry in one_stage.items() if entry.task == task), NAME]
        raise ConfigError(
            f"network {config.name!r} is for {network.task}, and the task is {task}",
            remedy=f"Take a model whose name is {' or '.join(fitting)}",
        )
    _check_params(network, config)
    if n_classes < 2:
        raise ConfigError(f"a network needs at least 2 classes with the background, not {n_classes}")
    file = weights_at_hand(config)  # before memory is taken for the network
    model = network(in_channels, n_classes, **config.params)
    if file is not None and config.weights_part is None:
        load_weights(model, file, config)
    return model


def check_model(config: ModelConfig, task: str | None = None) -> None:
    """Whether a network can be built: its name, its parameters, its task, and that its weights are here.

    Raises:
        ConfigError: as :func:`build_model`.
    """
    build_model(config, in_channels=3, n_classes=2, task=task)


def list_models(near: str | Path | None = None) -> list[tuple[str, str]]:
    """Names that ``model:`` of a study takes, each with a line about it; ``near`` as for ``available``."""
    return [
        (name, " ".join(str(load_piece("models", name, near).get("description", "")).split()))
        for name in available("models", near)
    ]


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _check_params(network: type[Network], config: ModelConfig) -> None:
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(network.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    open_ended = any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD
        for parameter in inspect.signature(network.__init__).parameters.values()
    )
    hints = typing.get_type_hints(network.__init__)
    for key, value in config.params.items():
        if key not in parameters:
            if open_ended and key not in ("in_channels", "classes", "encoder_name"):
                continue
            raise ConfigError(f"network {config.name!r} has no parameter {key!r}", remedy=did_you_mean(key, parameters))
        _check_word(config.name, key, value, hints.get(key))


def _check_word(network: str, key: str, value: object, hint: object) -> None:
    if typing.get_origin(hint) is typing.Literal and value not in typing.get_args(hint):
        raise ConfigError(
            f"{key!r} of network {network!r} is {value!r}", remedy=did_you_mean(str(value), typing.get_args(hint))
        )
