"""Virtual adversarial training: predictions that small changes of the image do not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import Batch, ScheduledAlign, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


PROBE = 0.01
"""Root mean square of the trial perturbation. The usual 1e-6 drowns in the rounding of float32 predictions."""


@register("align", "vat")
class Vat(ScheduledAlign):
    """Virtual adversarial training: predictions may not change under the worst small change of the image.

    ``mean KL(p(x) ‖ p(x + r))``, p(x) held still, r the change of a given size that makes it largest: the gradient of
    the same divergence at a small random r, scaled (one step of the power method; more by ``iterations``), for each
    patch. Its size is ``radius`` as a root mean square over pixels and channels of the standardised image, the same for
    patches of any size (an L2 norm of 8 on 32 × 32 × 3, a default of the authors' code, is 0.14).

    Own code: pytorch-adapt's ``VATLoss`` clears the gradients of the network and puts its batch normalisations into
    evaluation, where they would use other statistics than the predictions it compares with. Here they normalise by the
    batch, as in training, and their running statistics are left alone. Costs two more passes per batch.
    """

    reference: ClassVar[str] = "Miyato et al. 2018, Virtual Adversarial Training, arXiv 1704.03976"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    target_logits: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True

    weight: float = Field(1.0, ge=0, description="of the divergence, at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="the weight grows from 0, or is constant")
    radius: float = Field(0.1, gt=0, description="size of the change, root mean square in standardised units")
    iterations: int = Field(1, ge=1, description="steps of the power method")
    on: Literal["target", "both"] = Field("target", description="smooth on the target, or on the source too")

    def losses(self, step: Step) -> dict[str, Tensor]:
        assert step.target is not None
        batches = [step.target] if self.on == "target" else [step.source, step.target]
        result = [smoothness(step, batch, self.radius, self.iterations) for batch in batches]
        return {"smoothness": self.weight * self.growth(step) * sum(result[1:], result[0])}


def smoothness(step: Step, batch: Batch, radius: float, iterations: int) -> Tensor:
    """``mean KL(p(x) ‖ p(x + r))`` of a batch that has been through the network, r by :func:`worst_change`."""
    from stainda.strategies.norm.frozen_statistics import quiet

    assert batch.logits is not None
    with quiet(step.network):
        change = worst_change(step, batch, radius, iterations)
        return divergence(batch.logits, step.run(batch.images + change, batch)).mean()


def worst_change(step: Step, batch: Batch, radius: float, iterations: int) -> Tensor:
    """The change of root mean square ``radius`` per patch along which the divergence grows fastest, no gradient."""
    import torch

    images = batch.images.detach()
    assert batch.logits is not None
    change = torch.randn(images.shape, generator=step.generator).to(images)
    for _ in range(iterations):
        probe = of_size(change, PROBE).requires_grad_()
        with torch.enable_grad():
            result = divergence(batch.logits, step.run(images + probe, batch)).sum()
            (change,) = torch.autograd.grad(result, probe)
    return of_size(change, radius)


def of_size(change: Tensor, size: float) -> Tensor:
    """Each patch ``[N, ...]`` scaled to a root mean square of ``size``; zeros stay zeros."""
    scale = change.flatten(1).square().mean(1).sqrt().clamp(min=1e-20)
    return size * change.detach() / scale.view(-1, *[1] * (change.dim() - 1))


def divergence(before: Tensor, after: Tensor) -> Tensor:
    """``KL(softmax(before) ‖ softmax(after))`` of each patch ``[N]``, mean over pixels; no gradient to ``before``."""
    import torch

    log_p, log_q = (torch.log_softmax(logits.float(), dim=1) for logits in (before.detach(), after))
    return (log_p.exp() * (log_p - log_q)).sum(1).reshape(len(before), -1).mean(1)
