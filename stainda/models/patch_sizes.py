"""Whether a network takes patches of a size: known before anything is cut or trained."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stainda.config import ModelConfig

if TYPE_CHECKING:
    from stainda.models.base import Network

_CONVOLUTIONAL = re.compile(r"^(tu-)?(tf_)?(efficientnet|resnet|mobilenet|densenet|vgg|regnet)")
_HALVINGS = 32
"""What the convolutional encoders of segmentation-models-pytorch and timm divide a side by, at most."""


def check_patch_size(config: ModelConfig, size: int, task: str | None = None) -> None:
    """Refuse patches that the network cannot take, without its weights and, where it can be reported, without torch.

    Raises:
        ConfigError: the message names what it takes.
    """
    if _surely_fits(config, size):
        return
    import torch

    network = bare_network(config, task)
    images = torch.empty(1, 3, size, size, device=next(network.parameters()).device)
    with torch.no_grad():
        network.eval()(images)


def bare_network(config: ModelConfig, task: str | None, n_classes: int = 2) -> Network:
    """The network without numbers in it (on torch's meta device), where that can be built; else at random."""
    import torch

    from stainda.models.catalogue import build_model

    config = without_weights(config)
    try:
        with torch.device("meta"):
            return build_model(config, 3, n_classes, task)
    except (NotImplementedError, RuntimeError):  # some read numbers of their tensors as they are built
        with torch.random.fork_rng(devices=[]):
            return build_model(config, 3, n_classes, task)


def without_weights(config: ModelConfig) -> ModelConfig:
    """The same network from random weights."""
    return config.model_copy(
        update={"weights": None, "weights_sha256": "", "weights_missing": "", "weights_part": None}
    )


def _surely_fits(config: ModelConfig, size: int) -> bool:
    """Whether that can be distinguished from the settings alone; ``False``: it cannot."""
    params = config.params
    if config.name in ("unet", "cnn"):
        depth = params.get("depth", 4)
        return params.get("padding", "same") == "same" and isinstance(depth, int) and size % 2 ** (depth - 1) == 0
    if config.name not in ("smp", "timm", "encoder"):
        return False
    plain = bool(_CONVOLUTIONAL.match(str(params.get("encoder", "resnet18"))))
    return plain and params.get("decoder", "unet") == "unet" and size % _HALVINGS == 0
