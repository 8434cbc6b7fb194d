"""What cannot be compiled (``training.compile``), found before any work."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys

from stainda.config import TrainingConfig
from stainda.errors import ConfigError
from stainda.strategies import Strategy
from stainda.strategies.augment.mixstyle import MixStyleAugment

_OUTSIDE_TORCH = ("cnn_handcrafted",)
"""Networks that measure images by other libraries in every pass."""


def refuse_what_cannot_be_compiled(training: TrainingConfig, strategy: Strategy, network: str) -> None:
    """Refuse a strategy that ``training.compile`` would make another method, or nothing faster.

    Args:
        network: its name, of ``model.name``.

    Raises:
        ConfigError: with the part that does not fit, and why.
    """
    if not training.compile:
        return
    reason = None
    if any(isinstance(part, MixStyleAugment) for part in strategy.augment):
        reason = "augment mixstyle draws inside the network what it mixes"
    elif strategy.align.moves_weights:
        reason = f"align {strategy.align.name} differentiates a gradient, which torch.compile does not"
    elif training.cache is not None:
        reason = "training.cache leaves out the encoder, which takes the time"
    elif training.devices > 1:
        reason = f"training.devices is {training.devices}, whose processes meet inside the network"
    elif network in _OUTSIDE_TORCH:
        reason = f"network {network} measures images outside torch"
    if reason is not None:
        raise ConfigError(
            f"training.compile is true, and {reason}",
            file=f"strategy {strategy.name}",
            remedy="Set training.compile to false, of this strategy alone in its own training",
        )


def refuse_without_compiler(device: str) -> None:
    """Refuse to compile on a machine that has not got what torch's compiler calls.

    Args:
        device: ``cpu``, for which it writes C++, or ``cuda``, for which it writes Triton, started from C.

    Raises:
        ConfigError: what is missing, and how to get it.
    """
    on_gpu = device == "cuda"
    default = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    named, usual = ("CC", ("gcc", "clang", "cc")) if on_gpu else ("CXX", (default,))
    given = shlex.split(os.environ.get(named, ""))[:1]
    names = given or list(usual)
    if not any(shutil.which(name) for name in names):
        raise ConfigError(
            f"training.compile is true, and there is no {'C' if on_gpu else 'C++'} compiler ({' or '.join(names)})",
            remedy=f"Install one, for example {'gcc' if on_gpu else default}, or name one in the variable {named}, "
            "or set training.compile to false",
        )
    if on_gpu and importlib.util.find_spec("triton") is None:
        raise ConfigError(
            "training.compile is true, and Triton, which it needs on a GPU, is not installed",
            remedy="Install it (pip install triton, with the version that torch names), or set training.compile to "
            "false",
        )
