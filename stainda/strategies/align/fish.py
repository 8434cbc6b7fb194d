"""Fish: gradients of the groups that point the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step
from stainda.strategies.align.groups import GroupAlign
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "fish")
class Fish(GroupAlign):
    """Gradients of the groups are to point the same way: the network goes where steps on one group after another end.

    From the weights θ one step of plain gradient descent is taken on each group of the batch, in random order, each
    from where the last one ended; with θ̃ at their end, the direction is ``(θ̃ - θ) / (α n)`` (algorithm 1). On average
    over orders, to first order in α, that is against the mean gradient less ``α (n - 1) / 4`` times the gradient of the
    mean inner product of two groups' gradients. The direction is given to the optimiser as the gradient of the task
    loss, in place of the paper's ``θ + ε (θ̃ - θ)``, so that the learning rate means what it means for other
    strategies. A step runs the network once more on every patch.
    """

    reference: ClassVar[str] = "Shi et al. 2022, Gradient Matching for Domain Generalization, arXiv 2104.09937"
    needs_pixels: ClassVar[bool] = True
    replaces_task: ClassVar[bool] = True

    inner_rate: float = Field(0.1, gt=0, le=100, description="α, length of each group's step")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        from stainda.strategies.align.support.moved_weights import learning_weights, loss_with, moved

        groups = [members for _, members in self.members(step)]
        start = learning_weights(step)
        at, losses = start, []
        for place in torch.randperm(len(groups), generator=step.generator).tolist():
            at = {name: value.detach().requires_grad_() for name, value in at.items()}
            loss = loss_with(step, groups[place], at)
            losses.append(loss.detach())
            at = moved(at, loss, self.inner_rate)
        way = {name: (value - at[name]).detach() / (self.inner_rate * len(groups)) for name, value in start.items()}
        along = torch.stack([(value * way[name]).sum() for name, value in start.items()]).sum()
        return {"task": torch.stack(losses).mean() + along - along.detach()}
