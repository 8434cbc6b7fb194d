"""Fishr: gradient variances that are the same in every group."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from stainda.strategies.align.base import Site, Step
from stainda.strategies.align.groups import Penalised
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.buffers import Memory


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
        result = []
        for number, some in members:
            own = ((gradients[some] - gradients[some].mean(0)) ** 2).mean(0)
            seen[number] += 1
            mixed = self.smooth * mean[number] + (1 - self.smooth) * own
            mean[number] = mixed.detach()
            result.append(mixed / (1 - self.smooth ** float(seen[number])))
        variances = torch.stack(result)
        return ((variances - variances.mean(0)) ** 2).sum(1).mean()
