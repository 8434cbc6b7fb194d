"""GroupDRO: the worst group counts most."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from stainda.strategies.align.base import Site, Step
from stainda.strategies.align.groups import GroupAlign
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.buffers import Memory


@register("align", "group_dro")
class GroupDro(GroupAlign):
    """The worst group counts most: weights of the groups grow with their losses.

    ``q_g ← q_g exp(η L_g)``, normalised; the loss is ``Σ q_g L_g`` in place of the mean (online algorithm 1).
    Groups that are not in the batch keep their weight; the sum is then over those that are, their q normalised.
    """

    reference: ClassVar[str] = (
        "Sagawa et al. 2020, Distributionally Robust Neural Networks for Group Shifts, arXiv 1911.08731"
    )
    replaces_task: ClassVar[bool] = True

    eta: float = Field(0.01, gt=0, le=10, description="η, how fast the weights of groups follow their losses")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        import torch

        from stainda.strategies.align.support.buffers import Memory

        return {"weights": Memory(q=torch.full((len(site.groups),), 1.0 / max(1, len(site.groups))))}

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        q = cast("Memory", step.modules["weights"]).of("q")
        result = self.members(step)
        numbers = torch.tensor([number for number, _ in result], device=q.device)
        losses = torch.stack([step.task_loss(members) for _, members in result])
        with torch.no_grad():
            share = q[numbers].sum()
            raised = q[numbers] * torch.exp(self.eta * losses.detach().float())
            q[numbers] = raised / raised.sum() * share
        return {"task": (q[numbers] / q[numbers].sum() * losses).sum()}
