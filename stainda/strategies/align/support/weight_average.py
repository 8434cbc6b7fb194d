"""Where an average of weights begins and ends, by the losses on validation (SWAD, arXiv 2102.08604, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def valley(losses: Sequence[float], patience: int, tolerance: int, ratio: float) -> tuple[int | None, int | None]:
    """Indices of the first epoch averaged and of the first not averaged any more; ``None`` where not known yet.

    The start s is the first whose loss is the least of ``losses[s : s + patience]``; the limit is ``ratio`` times their
    mean; the end e, after those, is the first with ``tolerance`` losses in a row above the limit.
    """
    start = next(
        (s for s in range(len(losses) - patience + 1) if losses[s] <= min(losses[s : s + patience])),
        None,
    )
    if start is None:
        return None, None
    limit = ratio * sum(losses[start : start + patience]) / patience
    ends = range(start + patience, len(losses) - tolerance + 1)
    return start, next((e for e in ends if min(losses[e : e + tolerance]) > limit), None)


class Valley(nn.Module):
    """Weights of this epoch (their sum), of each of the last epochs (their means) and of the valley so far (their sum,
    each as often as its epoch had steps); all of it buffers.

    Args:
        patience, tolerance: of :func:`valley`; as many epochs are remembered one by one, until it is known whether they
            belong to the valley.
        epochs: of the whole training.
    """

    now: Tensor
    recent: Tensor
    total: Tensor
    steps: Tensor
    losses: Tensor
    epoch: Tensor
    taken: Tensor

    def __init__(self, network: nn.Module, patience: int, tolerance: int, epochs: int) -> None:
        super().__init__()
        self._patience, self._tolerance, keep = patience, tolerance, max(patience, tolerance)
        self._shapes = {name: value.shape for name, value in network.named_parameters()}
        size = sum(value.numel() for value in network.parameters())
        self.register_buffer("now", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("recent", torch.zeros(keep, size))
        self.register_buffer("total", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(keep + 2, dtype=torch.long))  # of now, the recent ones, the total
        self.register_buffer("losses", torch.full((epochs,), float("nan"), dtype=torch.float64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))  # epochs decided about

    @torch.no_grad()
    def add(self, network: nn.Module) -> None:
        """Add the weights after a step."""
        self.now += torch.cat([value.detach().flatten() for value in network.parameters()]).double()
        self.steps[0] += 1

    @torch.no_grad()
    def close(self, loss: float, ratio: float) -> None:
        """End an epoch, whose validation loss this is."""
        keep, done = len(self.recent), int(self.epoch)
        if done - int(self.taken) == keep:
            self._decide(ratio, int(self.taken) + 1)
        slot = done % keep
        self.recent[slot], self.steps[1 + slot] = (self.now / self.steps[0]).float(), self.steps[0]
        self.now.zero_()
        self.steps[0] = 0
        self.losses[done] = loss
        self.epoch += 1

    def _decide(self, ratio: float, until: int) -> None:
        """Add the remembered epochs before ``until`` that lie in the valley to its total; forget the others."""
        losses = self.losses[: int(self.epoch)].tolist()
        start, end = valley(losses, self._patience, self._tolerance, ratio)
        for number in range(int(self.taken), until):
            slot = number % len(self.recent)
            if start is not None and start <= number and (end is None or number < end):
                self.total += self.recent[slot].double() * self.steps[1 + slot]
                self.steps[-1] += self.steps[1 + slot]
        self.taken.fill_(until)

    @torch.no_grad()
    def finish(self, ratio: float) -> None:
        """Decide about the epochs still remembered, no more being to come."""
        self._decide(ratio, int(self.epoch))

    def weights(self) -> dict[str, Tensor]:
        """The mean by parameter names, float32."""
        slot = (int(self.epoch) - 1) % len(self.recent)
        mean = self.recent[slot] if self.steps[-1] == 0 else self.total / self.steps[-1]
        parts = mean.float().split([shape.numel() for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}
