"""MLDG: a step on some groups is to lower the loss of a group it was not made on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step
from stainda.strategies.align.groups import GroupAlign
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "mldg")
class Mldg(GroupAlign):
    """A step on some groups is to lower the loss of a group that it was not made on.

    At each step one group of the batch, drawn at random, is held out. With F the mean loss of the others and G the loss
    of the group held out, ``F(θ) + β G(θ - α ∇F(θ))`` is minimised (equation 3). To first order that is
    ``F + β G - α β ∇F·∇G``: directions on which groups agree are taken. The gradient of the inner step is
    differentiated too, unless ``second_order`` is off. Each step runs the network once more.
    """

    reference: ClassVar[str] = "Li et al. 2018, Learning to Generalize: Meta-Learning for DG, arXiv 1710.03463"
    needs_pixels: ClassVar[bool] = True
    moves_weights: ClassVar[bool] = True
    replaces_task: ClassVar[bool] = True

    weight: float = Field(1.0, ge=0, description="β, of the loss of the group held out")
    inner_rate: float = Field(0.1, gt=0, le=100, description="α, length of the inner step, of plain gradient descent")
    second_order: bool = Field(True, description="differentiate the inner gradient too, as the paper does")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        from stainda.strategies.align.support.moved_weights import learning_weights, loss_with, moved

        groups = [members for _, members in self.members(step)]
        held = int(torch.randint(len(groups), (1,), generator=step.generator))
        others = [step.task_loss(members) for place, members in enumerate(groups) if place != held]
        if not others:
            return {"task": step.task_loss()}
        first = torch.stack(others).mean()
        ahead = moved(learning_weights(step), first, self.inner_rate, self.second_order)
        return {"task": first, "held_out": self.weight * loss_with(step, groups[held], ahead)}
