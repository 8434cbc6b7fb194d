"""EQRM: the loss that most groups stay below is made small."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step
from stainda.strategies.align.groups import GroupAlign
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "eqrm")
class Eqrm(GroupAlign):
    """Quantile risk minimisation: the loss that a share of all groups like these stays below is made small.

    The losses of the groups are a sample of those of all groups; their distribution is estimated by Gaussian kernels
    as wide as Silverman's rule says (equation 5.1), and its quantile at ``1 - tail`` is minimised. A half is the
    median; towards 0 the spread of the losses decides, as for V-REx. Until ``begin`` it is their mean.
    """

    reference: ClassVar[str] = "Eastwood et al. 2022, Probable Domain Generalization via Quantiles, arXiv 2207.09944"
    replaces_task: ClassVar[bool] = True

    tail: float = Field(
        0.25, gt=0, lt=1, description="1 - α, share of groups whose loss may be higher; 1e-10 is as meaningful as 0.25"
    )
    begin: float = Field(0.2, ge=0, lt=1, description="share of the steps that learn the mean loss of the groups first")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        losses = torch.stack([step.task_loss(members) for _, members in self.members(step)])
        return {"task": losses.mean() if step.progress < self.begin else quantile_of(losses, self.tail)}


def quantile_of(losses: Tensor, tail: float) -> Tensor:
    """The loss above which ``tail`` of the estimated distribution lies: a scalar, differentiable by the losses ``[n]``.

    With kernels of standard deviation h, ``mean_i Φ((r_i - q) / h) = tail``; h is ``1.06 s n^(-1/5)`` (Silverman), s
    the standard deviation. Found by bisection in logarithms, so that tails of any smallness are; the gradient comes
    from one step of Newton's method there. Of equal losses, or of one, it is that loss.
    """
    import torch

    values = losses.double()
    width = 1.06 * values.std() * len(values) ** -0.2 if len(values) > 1 else values.new_zeros(())
    if float(width.detach()) < 1e-9:
        return losses.mean()
    rest = torch.tensor(tail, dtype=torch.float64).log().item()

    def log_above(q: Tensor) -> Tensor:
        return torch.special.log_ndtr((values - q) / width).logsumexp(0) - torch.tensor(float(len(values))).log()

    with torch.no_grad():
        reach = width * (2.0 + (2.0 * abs(rest)) ** 0.5)
        low, high = values.min() - reach, values.max() + reach
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if float(log_above(middle)) > rest else (low, middle)
    at = ((low + high) / 2).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(log_above(at), at)
    at = at.detach()
    return (at - (log_above(at) - rest) / slope.detach()).to(losses.dtype)
