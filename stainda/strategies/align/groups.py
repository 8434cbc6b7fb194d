"""Domain generalisation: what is learned has to serve every group of labelled patches, not only their mixture.

A group is a source domain, or a patient or slide of the sources (``groups``): with one source stain the patients still
differ. No target image is looked at, so these parts work where the protocol shows nothing of the targets. Every batch
is dealt evenly over the groups; batch statistics are therefore those of the mixture (``norm: shared``, ``reestimated``
or ``group``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import Align, Grouping, Step
from stainda.strategies.parts import Field

if TYPE_CHECKING:
    from torch import Tensor


class GroupAlign(Align):
    """A part that compares the losses, or the gradients, of groups."""

    needs_targets: ClassVar[bool] = False

    groups: Literal["domain", "patient", "slide"] = Field(
        "domain", description="what makes a group of labelled patches: its domain, patient or slide"
    )

    @property
    def grouping(self) -> Grouping | None:
        return self.groups

    def members(self, step: Step) -> list[tuple[int, Tensor]]:
        """Number of every group in the batch, and the indices (long) of its patches."""
        groups = step.source.groups
        assert groups is not None
        return [(int(number), (groups == number).nonzero()[:, 0]) for number in groups.unique()]


def grown(weight: float, share: float, progress: float) -> float:
    """A penalty's weight: grows evenly from 0 during the first ``share`` of the steps, then ``weight``."""
    return weight if progress >= share else weight * progress / share


class Penalised(GroupAlign):
    """The mean loss of the groups and a penalty, whose weight grows while the network learns its task.

    The papers' code switches the weight on at one step and starts Adam anew there, whose memory does not take the
    sudden gradient; growing evenly needs no such step. The sum is divided by the weight where that is above 1, from the
    first step on, so that a large weight is no larger learning rate.
    """

    replaces_task: ClassVar[bool] = True

    weight: float = Field(1.0, ge=0, description="of the penalty, once it has grown")
    grow: float = Field(0.5, ge=0, lt=1, description="share of the steps during which the weight grows from 0")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        result = self.members(step)
        losses = [step.task_loss(members) for _, members in result]
        weight = grown(self.weight, self.grow, step.progress)
        scale = 1.0 / max(1.0, self.weight)
        penalty = self.penalty(step, result, losses)
        return {"task": scale * torch.stack(losses).mean(), self.name: scale * weight * penalty}

    def penalty(self, step: Step, members: list[tuple[int, Tensor]], losses: list[Tensor]) -> Tensor:
        """A scalar, unweighted.

        Args:
            members: of :meth:`GroupAlign.members`. losses: the task loss of each.
        """
        raise NotImplementedError
