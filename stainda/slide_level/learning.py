"""An aggregator learns from the bags of source patients; validation on source patients keeps the best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stainda.config.slide_level import Aggregator, SlideTrainingConfig
from stainda.errors import TrainingError
from stainda.slide_level.aggregators import BagNetwork


@dataclass(frozen=True, eq=False)
class LabelledBag:
    """A bag that may be learned from: ``features`` gives its vectors (n, d)."""

    features: Callable[[], Tensor]
    positive: bool


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained aggregator: the weights of the epoch with the lowest loss on validation, and both losses there."""

    network: BagNetwork
    epoch: int
    train_loss: float
    val_loss: float

    def answer(self, features: Tensor) -> tuple[float, Tensor | None]:
        """Log odds of the label, which do not saturate as a probability does, and what each patch (n,) is given."""
        self.network.eval()
        with torch.no_grad():
            logit, evidence = self.network(features)
        return float(logit), evidence


def learn(
    name: Aggregator,
    teaching: Sequence[LabelledBag],
    validating: Sequence[LabelledBag],
    settings: SlideTrainingConfig,
    seed: int,
) -> Learned:
    """Train one aggregator, bag by bag, with AdamW and a learning rate that falls to 0 as a cosine.

    Raises:
        TrainingError: no epoch ended with a finite loss on validation.
    """
    features = teaching[0].features()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BagNetwork(name, features.shape[1], settings.hidden, settings.dropout).to(features.device)
        network.fit(lambda: torch.cat([bag.features() for bag in teaching]), seed)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        steps = settings.epochs * math.ceil(len(teaching) / settings.bags_per_step)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        weights = _weights([bag.positive for bag in teaching], settings.balanced)
        best, kept = (math.inf, 0, math.inf), dict[str, Tensor]()
        for epoch in range(1, settings.epochs + 1):
            network.train()
            losses = []
            for group in torch.randperm(len(teaching)).split(settings.bags_per_step):
                optimiser.zero_grad()
                for index in group.tolist():
                    bag = teaching[index]
                    loss = weights[bag.positive] * network.loss(bag.features(), bag.positive)
                    (loss / len(group)).backward()
                    losses.append(float(loss.detach()))
                optimiser.step()
                schedule.step()
            val_loss = _validate(network, validating, settings.balanced)
            if val_loss < best[0]:
                best = val_loss, epoch, sum(losses) / len(losses)
                kept = {key: value.detach().clone() for key, value in network.state_dict().items()}
    if not kept:
        raise TrainingError(
            f"aggregator {name!r}, seed {seed}: the loss on validation is not finite after any epoch ({val_loss})",
            remedy=f"Lower slide_level.training.learning_rate ({settings.learning_rate:g}), or take another encoder if "
            "its features are not finite",
        )
    network.load_state_dict(kept)
    return Learned(network.eval(), best[1], best[2], best[0])


def _validate(network: BagNetwork, bags: Sequence[LabelledBag], balanced: bool) -> float:
    """Cross-entropy of the answers, without what an aggregator adds to its own loss."""
    network.eval()
    weights = _weights([bag.positive for bag in bags], balanced)
    losses = []
    with torch.no_grad():
        for bag in bags:
            logit = network(bag.features())[0]
            losses.append(
                weights[bag.positive] * float(torch.nn.functional.softplus(-logit if bag.positive else logit))
            )
    return sum(losses) / len(losses)


def _weights(labels: Sequence[bool], balanced: bool) -> dict[bool, float]:
    """Of both labels, with mean 1 over the bags; where one is missing the other weighs 1."""
    counts = {label: list(labels).count(label) for label in (True, False)}
    if not balanced or not all(counts.values()):
        return {True: 1.0, False: 1.0}
    return {label: len(labels) / (2 * number) for label, number in counts.items()}
