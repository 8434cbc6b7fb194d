"""Domain generalisation: what is learned has to serve every group of labelled patches, not only their mixture.

A group is a source domain, or a patient or slide of the sources (``groups``): with one source stain the patients still
differ. No target image is looked at, so these parts work where the protocol shows nothing of the targets. Every batch
is dealt evenly over the groups; batch statistics are therefore those of the mixture (``norm: shared``, ``reestimated``
or ``group``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from stainda.strategies.align.base import Align, Grouping, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.buffers import Memory


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


@register("align", "group_dro")
class GroupDro(GroupAlign):
    """The worst group counts most: weights of the groups grow with their losses.

    ``q_g ← q_g exp(η L_g)``, normalised; the loss is ``Σ q_g L_g`` in place of the mean (online algorithm 1).
    Groups that are not in the batch keep their weight; the sum is then over those that are, their q normalised.
    """

    reference: ClassVar[str] = (
        "Sagawa et al. 2020, Distributionally Robust Neural Networks for Group Shifts, arXiv 1911.08731"
    )

    eta: float = Field(0.01, gt=0, le=10, description="η, how fast the weights of groups follow their losses")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        import torch

        from stainda.strategies.align.support.buffers import Memory

        return {"weights": Memory(q=torch.full((len(site.groups),), 1.0 / max(1, len(site.groups))))}

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        q = cast("Memory", step.modules["weights"]).of("q")
        found = self.members(step)
        numbers = torch.tensor([number for number, _ in found], device=q.device)
        losses = torch.stack([step.task_loss(members) for _, members in found])
        with torch.no_grad():
            share = q[numbers].sum()
            raised = q[numbers] * torch.exp(self.eta * losses.detach().float())
            q[numbers] = raised / raised.sum() * share
        return {"task": (q[numbers] / q[numbers].sum() * losses).sum()}


class Penalised(GroupAlign):
    """The mean loss of the groups and a penalty, whose weight grows while the network learns its task.

    The papers' code switches the weight on at one step and starts Adam anew there, whose memory does not take the
    sudden gradient; growing evenly needs no such step. The sum is divided by the weight where that is above 1, from the
    first step on, so that a large weight is no larger learning rate.
    """

    weight: float = Field(1.0, ge=0, description="of the penalty, once it has grown")
    grow: float = Field(0.5, ge=0, lt=1, description="share of the steps during which the weight grows from 0")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        found = self.members(step)
        losses = [step.task_loss(members) for _, members in found]
        weight = grown(self.weight, self.grow, step.progress)
        scale = 1.0 / max(1.0, self.weight)
        penalty = self.penalty(step, found, losses)
        return {"task": scale * torch.stack(losses).mean(), self.name: scale * weight * penalty}

    def penalty(self, step: Step, members: list[tuple[int, Tensor]], losses: list[Tensor]) -> Tensor:
        """A scalar, unweighted.

        Args:
            members: of :meth:`GroupAlign.members`. losses: the task loss of each.
        """
        raise NotImplementedError


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
        found = 2 * before * gradient - before**2
        seen[number] += 1
        mean[number] = KEPT * mean[number] + (1 - KEPT) * gradient.detach()
        return found

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


@register("align", "vrex")
class Vrex(Penalised):
    """Risk extrapolation: the groups' losses are to be equal; the penalty is their variance.

    ``λ · mean_g (L_g - mean L)²`` beside the mean loss.
    """

    reference: ClassVar[str] = "Krueger et al. 2021, Out-of-Distribution Generalization via REx, arXiv 2003.00688"

    def penalty(self, step: Step, members: list[tuple[int, Tensor]], losses: list[Tensor]) -> Tensor:
        return spread(losses)


def spread(losses: Iterable[Tensor]) -> Tensor:
    """Mean squared deviation of scalars from their mean."""
    import torch

    values = torch.stack(list(losses))
    return ((values - values.mean()) ** 2).mean()


@register("align", "fishr")
class Fishr(Penalised):
    """Invariant gradient variances: patches of every group are to pull the classifier about equally.

    For every patch the gradient of its cross-entropy by a linear classifier on the layer's features; ``v_g`` is the
    variance of these gradients over the patches of group g, entry by entry, smoothed over steps; the penalty is
    ``mean_g ‖v_g - mean v‖²``. With residuals ``r = softmax - one-hot`` and features h of a patch's positions the
    gradient is ``mean_p r_p h_pᵀ`` (and ``mean_p r_p`` for the bias), so no second backward pass is needed. On the
    last layer before a 1×1 head, such as the U-Net's ``decoder``, this is the head's own gradient. Where the layer is
    coarser than the output, residuals are averaged to its grid.
    """

    reference: ClassVar[str] = "Ramé et al. 2022, Fishr: Invariant Gradient Variances, arXiv 2109.02934"

    layer: str = Field("decoder", description="layer whose output the classifier reads")
    weight: float = Field(100.0, ge=0, description="of the penalty, once it has grown")
    smooth: float = Field(0.9, ge=0, lt=1, description="how much of a group's variance comes from earlier steps")

    @property
    def tapped(self) -> str | None:
        return self.layer

    def modules(self, site: Site) -> dict[str, nn.Module]:
        import torch

        from stainda.strategies.align.support.buffers import Memory

        entries = site.n_classes * (site.channels + 1)
        return {"variances": Memory(mean=torch.zeros(len(site.groups), entries), seen=torch.zeros(len(site.groups)))}

    def penalty(self, step: Step, members: list[tuple[int, Tensor]], losses: list[Tensor]) -> Tensor:
        import torch

        from stainda.strategies.align.support.gradients import classifier_gradients

        assert step.source.logits is not None and step.source.labels is not None and step.source.features is not None
        gradients = classifier_gradients(step.source.logits, step.source.labels, step.source.features)
        memory = cast("Memory", step.modules["variances"])
        mean, seen = memory.of("mean"), memory.of("seen")
        found = []
        for number, some in members:
            own = ((gradients[some] - gradients[some].mean(0)) ** 2).mean(0)
            seen[number] += 1
            mixed = self.smooth * mean[number] + (1 - self.smooth) * own
            mean[number] = mixed.detach()
            found.append(mixed / (1 - self.smooth ** float(seen[number])))
        variances = torch.stack(found)
        return ((variances - variances.mean(0)) ** 2).sum(1).mean()
