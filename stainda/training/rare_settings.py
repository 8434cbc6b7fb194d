"""Settings that few trainings have and whose results a correction changed: such trainings alone get new names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stainda.strategies import Strategy
from stainda.strategies.align.base import Align, ScheduledAlign
from stainda.strategies.align.combined import CombinedAlign

if TYPE_CHECKING:
    from stainda.config import TaskConfig, TrainingConfig

COUNTERS = {
    "few_mixed": 2, "shares": 2, "slide_statistics": 2, "map_gradients": 2, "frozen_bf16": 2, "spectral": 2,
    "weighted_heads": 2,
}  # fmt: skip
"""As ``ALGORITHM`` of :mod:`stainda.training.job`, by setting:

- ``few_mixed``: batches mix the few annotated patches of targets with others, so that domains often lack one kind.
- ``shares``: ``share`` of an align part with terms that it does not scale.
- ``slide_statistics``: thresholds are fixed with batch statistics of each validation slide.
- ``map_gradients``: Fishr on another layer of a classifier than its last, which may be a map.
- ``frozen_bf16``: ADDA, whose copy of the network runs in the precision of the training, where that is set to bf16.
- ``spectral``: discriminators of spectral norm 1, which measuring moved.
- ``weighted_heads``: parts with a task loss of their own on propagated labels, whose pixels may have weights.
"""


def rare_settings(strategy: Strategy, task: TaskConfig, training: TrainingConfig) -> dict[str, int]:
    """Those of :data:`COUNTERS` that a training has."""
    few, parts = strategy.labels.few, _align_parts(strategy.align)
    applies = {
        "few_mixed": few is not None and few[1] == "patches" and not strategy.norm.by_domain,
        "shares": any(isinstance(part, ScheduledAlign) and part.share and part.unscaled for part in parts.values()),
        "slide_statistics": strategy.norm.from_slide,
        "map_gradients": task.kind == "classification" and "fishr" in parts and parts["fishr"].tapped != "decoder",
        "frozen_bf16": "adda" in parts and training.precision == "bf16",
        "spectral": any(getattr(part, "discriminator_norm", "none") == "spectral" for part in parts.values()),
        "weighted_heads": strategy.labels.rule == "propagated" and bool({"mcd", "symnets", "rtn"} & set(parts)),
    }
    return {name: COUNTERS[name] for name, here in applies.items() if here}


def _align_parts(align: Align) -> dict[str, Align]:
    """By name: the part, or the members of several together."""
    return align.members if isinstance(align, CombinedAlign) else {align.name: align}
