"""What cannot be trained with a batch in shares, since its method looks across the batch inside the network."""

from __future__ import annotations

from stainda.config import TrainingConfig
from stainda.errors import ConfigError
from stainda.strategies import Strategy
from stainda.strategies.augment.mixstyle import MixStyleAugment


def refuse_what_cannot_be_shared(training: TrainingConfig, strategy: Strategy) -> None:
    """Refuse a strategy whose result would be of another method with ``training.devices`` above 1.

    Raises:
        ConfigError: with the part that does not fit, and why.
    """
    if training.devices == 1:
        return
    reason = None
    if any(isinstance(part, MixStyleAugment) for part in strategy.augment):
        reason = "augment mixstyle mixes patches of a batch inside the network"
    elif strategy.align.moves_weights:
        reason = f"align {strategy.align.name} differentiates the loss of a batch by the network's weights itself"
    elif training.cache is not None:
        reason = "training.cache learns from features that are kept, which one device does in no time"
    if reason is not None:
        raise ConfigError(
            f"training.devices is {training.devices}, and {reason}",
            file=f"strategy {strategy.name}",
            remedy="Set training.devices to 1, of this strategy alone in its own training",
        )
