"""Device, precision, threads and optimiser of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from stainda.config import TrainingConfig
from stainda.errors import TrainingError


def make_optimiser(config: TrainingConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, nesterov=True)
    made = torch.optim.Adam if config.optimiser == "adam" else torch.optim.AdamW
    return made(parameters, lr=rate, weight_decay=decay)


def choose_device(config: TrainingConfig) -> str:
    """``cpu`` or ``cuda``.

    Raises:
        TrainingError: a GPU is asked for and there is none.
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
    """The number of threads asked for, and algorithms that give the same result twice; as before afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
