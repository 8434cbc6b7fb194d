"""Training one job: the loop, losses, batches, thresholds, checkpoints.

Importing this package does not import torch; the first use of the loop does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stainda.training.job import Job, resolve_start, resolve_training
from stainda.training.result import TrainingResult, read_result

if TYPE_CHECKING:
    from stainda.training.running import train, train_on

__all__ = ["Job", "TrainingResult", "read_result", "resolve_start", "resolve_training", "train", "train_on"]


def __getattr__(name: str) -> Any:
    if name in ("train", "train_on"):
        from stainda.training import running

        return getattr(running, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
