"""What our own networks are made of: blocks of convolutions, how they start, and checks of their sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from stainda.errors import ConfigError

Norm = Literal["batch", "group", "instance", "none"]
Padding = Literal["same", "valid"]
Init = Literal["kaiming", "glorot", "pytorch"]
RANGES = {"depth": (2, 8), "convolutions": (1, 4)}
"""Least and greatest of some sizes; of others :data:`ANY_SIZE`."""
ANY_SIZE = (1, 8192)


def block_of(ins: int, outs: int, convolutions: int, norm: Norm, padding: Padding) -> nn.Sequential:
    """3 x 3 convolutions, each with its normalisation and a ReLU."""
    layers: list[nn.Module] = []
    for index in range(convolutions):
        layers.append(
            nn.Conv2d(
                ins if index == 0 else outs,
                outs,
                3,
                padding=1 if padding == "same" else 0,
                bias=norm in ("none", "group"),
            )
        )
        layers += normalised(norm, outs)
    return nn.Sequential(*layers)


def normalised(norm: Norm, width: int) -> list[nn.Module]:
    """What follows a convolution: its normalisation and a ReLU."""
    return [*_norm(norm, width), nn.ReLU(inplace=True)]


def _norm(norm: Norm, width: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(width)]
    if norm == "instance":
        return [nn.InstanceNorm2d(width, affine=True)]
    if norm == "group":
        return [nn.GroupNorm(next(groups for groups in (8, 4, 2, 1) if width % groups == 0), width)]
    return []


def initialiser(init: Init) -> Callable[[nn.Module], None]:
    """Starts the convolutions of a network: ``network.apply(initialiser("glorot"))``; ``pytorch`` leaves them."""

    def start(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and init != "pytorch":
            if init == "glorot":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    return start


def check_sizes(what: str, **sizes: int) -> None:
    """Refuse sizes no network can have.

    Raises:
        ConfigError: a size that is no whole number within its range.
    """
    for name, value in sizes.items():
        low, high = RANGES.get(name, ANY_SIZE)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{name!r} of {what} must be a whole number from {low} to {high}, not {value!r}")


def check_dropout(what: str, dropout: float) -> None:
    """Refuse a share of features that cannot be dropped.

    Raises:
        ConfigError: it is not within 0 and 1.
    """
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigError(f"'dropout' of {what} must be at least 0 and below 1, not {dropout!r}")
