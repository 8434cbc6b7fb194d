"""SymNets: a source and a target classifier that together are the discriminator."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step
from stainda.strategies.align.heads import Heads
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "symnets")
class SymNets(Heads):
    """Domain-symmetric networks: a source and a target classifier that together are the discriminator.

    With the softmax p over the 2K scores of both heads, P_s the mass of the source's half and P_t of the target's:
    heads (features pass no gradient): task loss of each on the source, ``-log P_s(x_s) - log P_t(x_t)``;
    network (heads held still): ``-½ (log p_y + log p_{y+K})`` on labelled places, and, growing with the schedule,
    ``-½ (log P_s + log P_t)`` and the entropy of ``p_k + p_{k+K}`` on the target, all times λ.

    Own code, in log-probabilities: pytorch-adapt's category loss takes a softmax of the softmax, which is not the
    paper's loss.
    """

    reference: ClassVar[str] = "Zhang et al. 2019, Domain-Symmetric Networks, arXiv 1904.04663"
    compares: ClassVar[bool] = True
    unscaled: ClassVar[tuple[str, ...]] = ("category",)

    weight: float = Field(1.0, ge=0, description="λ, strength of the network's side")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        from stainda.strategies.align.support.rows import frozen_call, head_input, like_logits

        source, target = self.inputs(step)
        one, other = self.heads(step)
        assert step.source.labels is not None and step.source.logits is not None and step.compared.features is not None
        taught = self.task(step, one(source.detach())) + self.task(step, other(source.detach()))
        compared = head_input(step.compared.features, step.source.logits).detach()
        own, _ = halves(one(compared), other(compared))
        _, foreign = halves(one(target.detach()), other(target.detach()))
        apart = -own.logsumexp(1).mean() - foreign.logsumexp(1).mean()

        still = [like_logits(frozen_call(head, source), step.source.logits) for head in (one, other)]
        category = _of_class(halves(still[0], still[1]), step.source.labels)
        first, second = halves(frozen_call(one, target), frozen_call(other, target))
        domain = -0.5 * (first.logsumexp(1).mean() + second.logsumexp(1).mean())
        joined = torch.logaddexp(first, second)
        entropy = -(joined.exp() * joined).sum(1).mean()
        growing = self.growth(step)
        return {
            "heads": taught,
            "domain": apart,
            "category": self.weight * category,
            "confusion": self.weight * growing * domain,
            "entropy": self.weight * growing * entropy,
        }


def halves(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the two halves of the softmax over both heads' scores, each ``[N, K, ...]``."""
    import torch

    joined = torch.log_softmax(torch.cat([one, other], dim=1).float(), dim=1)
    first, second = joined.chunk(2, dim=1)
    return first, second


def _of_class(log_shares: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    """``-½ (log p_y + log p_{y+K})``, mean over labelled places (255 is none)."""
    from torch.nn.functional import nll_loss

    result = [nll_loss(half, labels, ignore_index=255, reduction="sum") for half in log_shares]
    return 0.5 * (result[0] + result[1]) / (labels != 255).sum().clamp(min=1)
