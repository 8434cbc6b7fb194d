"""IRM: one classifier is to be best for every group at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from stainda.strategies.align.base import Site, Step
from stainda.strategies.align.groups import Penalised
from stainda.strategies.parts import register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.buffers import Memory


@register("align", "irm")
class Irm(Penalised):
    """Invariant risk minimisation: one classifier is to be best for every group at once.

    IRMv1's penalty: the squared gradient of each group's loss ``L_g(w · logits)`` by the dummy scale w at 1, mean over
    groups. The square of one batch's gradient is too large by the variance of that gradient. It is estimated without
    that bias by the product of the gradients of two halves of the group's patches, drawn at random so that objects and
    empty patches are shared out evenly. A group of fewer than four patches in a batch has no such halves (one would be
    the object, the other the background): its gradient g is multiplied with the mean m of those of earlier steps
    instead, ``2 m g - m²``, which has the same gradient.
    """

    reference: ClassVar[str] = "Arjovsky et al. 2019, Invariant Risk Minimization, arXiv 1907.02893"

    def modules(self, site: Site) -> dict[str, nn.Module]:
        import torch

        from stainda.strategies.align.support.buffers import Memory

        return {"gradients": Memory(mean=torch.zeros(len(site.groups)), seen=torch.zeros(len(site.groups)))}

    def penalty(self, step: Step, members: list[tuple[int, Tensor]], losses: list[Tensor]) -> Tensor:
        import torch

        return torch.stack([self._squared(step, number, some) for number, some in members]).mean()

    def _squared(self, step: Step, number: int, members: Tensor) -> Tensor:
        if len(members) >= LEAST_FOR_HALVES:
            one, other = (self._gradient(step, half) for half in even_halves(step, members))
            return one * other
        memory = cast("Memory", step.modules["gradients"])
        mean, seen = memory.of("mean"), memory.of("seen")
        gradient = self._gradient(step, members)
        before = mean[number] / (1 - KEPT ** float(seen[number])) if seen[number] else mean[number]
        result = 2 * before * gradient - before**2
        seen[number] += 1
        mean[number] = KEPT * mean[number] + (1 - KEPT) * gradient.detach()
        return result

    @staticmethod
    def _gradient(step: Step, members: Tensor) -> Tensor:
        """The derivative of the task loss of some patches by a factor on their logits, at 1."""
        import torch

        scale = torch.ones((), device=members.device, requires_grad=True)
        return torch.autograd.grad(step.task_loss(members, scale), scale, create_graph=True)[0]


LEAST_FOR_HALVES = 4
"""Patches of a group in a batch from which both halves show objects and background."""


KEPT = 0.9
"""How much of a small group's mean gradient comes from earlier steps."""


def even_halves(step: Step, members: Tensor) -> tuple[Tensor, Tensor]:
    """Two halves of patches (indices, long) at random, with as many objects each as can be."""
    import torch

    assert step.source.labels is not None
    labels = step.source.labels[members].reshape(len(members), -1)
    shows = ((labels > 0) & (labels != 255)).any(1)
    order = torch.randperm(len(members), generator=step.generator).to(members.device)
    order = order[torch.argsort(shows[order].long(), stable=True)]
    return members[order[::2]], members[order[1::2]]
