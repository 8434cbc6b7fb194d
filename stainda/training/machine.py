"""Device, precision, threads and optimiser of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from stainda.config import TrainingConfig
from stainda.errors import TrainingError
from stainda.memory import freed_memory_kept

RATE = "rate_factor"
"""Entry of a parameter group of the optimiser: its learning rate as a factor on ``training.learning_rate``."""


def parameter_groups(
    network: nn.Module, modules: nn.ModuleDict, rates: Mapping[str, float], factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Parameters of the network that learn and of an align part's modules, one group for each learning rate.

    Args:
        factors: of parameters of the network by name (``training.layer_decay``); all others have 1.
        rates: factors by path of a module among ``modules`` (:meth:`stainda.strategies.align.base.Align.rates`); the
            network and all others have 1, and come first.
    """
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(factors.get(name, 1.0), []).append(parameter)
    for name, parameter in modules.named_parameters():
        factor = next((rate for path, rate in rates.items() if name.startswith(f"{path}.")), 1.0)
        groups.setdefault(factor, []).append(parameter)
    return [{"params": some, RATE: factor} for factor, some in groups.items()]


def set_rates(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group: ``rate`` times the group's own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group[RATE]


def make_optimiser(config: TrainingConfig, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimiser of groups of :func:`parameter_groups`."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, nesterov=True)
    optimiser = torch.optim.Adam if config.optimiser == "adam" else torch.optim.AdamW
    return optimiser(parameters, lr=rate, weight_decay=decay)


def choose_device(config: TrainingConfig) -> str:
    """``cpu`` or ``cuda``.

    Raises:
        TrainingError: a GPU is requested and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("training.device is cuda and no GPU is visible", remedy="Set training.device to auto")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def choose_precision(config: TrainingConfig) -> str:
    """``fp32`` or ``bf16``; ``auto`` takes bf16 on a GPU and fp32 on a CPU.

    On a CPU without bf16 instructions (AVX2 alone) a bf16 step of the small U-Net took eight times as long.
    """
    if config.precision != "auto":
        return config.precision
    return "bf16" if choose_device(config) == "cuda" else "fp32"


@contextmanager
def torch_for(config: TrainingConfig) -> Iterator[None]:
    """The number of threads requested, and algorithms that give the same result twice; as before afterwards.

    Memory of one step is kept for the next.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with freed_memory_kept():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
