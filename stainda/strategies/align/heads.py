"""Alignment through classifiers of its own beside the network's."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stainda.strategies.align.base import FeatureAlign, ScheduledAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


class Heads(ScheduledAlign, FeatureAlign):
    """Base of the parts with two classifiers on the decoder's features, at every pixel (or per patch).

    They teach the features and are then left behind: the network is used with its own classifier, which learns the task
    beside them, so that a strategy never changes what a trained network is.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    target_logits: ClassVar[bool] = True

    layer: str = Field("decoder", description="layer the classifiers read: the last before the classes")
    weight: float = Field(1.0, ge=0, description="λ, strength of the network's side at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="λ grows from 0 (Ganin) or is constant")
    hidden: int = Field(32, ge=1, description="channels of the classifiers' hidden layer")

    def strength(self, step: Step) -> float:
        """λ at this step."""
        return self.weight * self.growth(step)

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import Head

        return {name: Head(site.channels, self.hidden, site.n_classes) for name in ("head_a", "head_b")}

    def inputs(self, step: Step) -> tuple[Tensor, Tensor]:
        """What the heads read of the labelled source and of the target."""
        from stainda.strategies.align.support.rows import head_input

        assert step.target is not None and step.source.logits is not None and step.target.logits is not None
        assert step.source.features is not None and step.target.features is not None
        return (
            head_input(step.source.features, step.source.logits),
            head_input(step.target.features, step.target.logits),
        )

    @staticmethod
    def heads(step: Step) -> tuple[nn.Module, nn.Module]:
        return step.modules["head_a"], step.modules["head_b"]

    @staticmethod
    def task(step: Step, found: Tensor) -> Tensor:
        """The task loss of a head's scores on the source."""
        from stainda.strategies.align.support.rows import like_logits

        assert step.loss is not None and step.source.labels is not None and step.source.logits is not None
        return step.loss(like_logits(found, step.source.logits), step.source.labels)


@register("align", "mcd")
class Mcd(Heads):
    """Maximum classifier discrepancy: the target is moved to where two classifiers of the source agree.

    Both heads learn the task from the source. With ``d`` the mean absolute difference of their softmax on the target
    (pytorch-adapt's ``MCDLoss``) the loss has ``-d(A(rev_λ f_t), B(rev_λ f_t))``: the heads maximise their difference,
    the features, behind a gradient reversal, minimise it with strength λ. The authors' code takes turns, with four
    steps for the features; here λ says how much stronger they are, and a step stays one step.
    """

    reference: ClassVar[str] = (
        "Saito et al. 2018, Maximum Classifier Discrepancy for Unsupervised Domain Adaptation, arXiv 1712.02560"
    )

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.rows import reversed_gradient

        source, target = self.inputs(step)
        one, other = self.heads(step)
        seen = reversed_gradient(target, self.strength(step))
        return {
            "heads": self.task(step, one(source)) + self.task(step, other(source)),
            "discrepancy": -self._discrepancy(one(seen), other(seen)),
        }

    @cached_property
    def _discrepancy(self) -> Any:
        from stainda.strategies.align.support.pytorch_adapt import layers

        return layers.MCDLoss()


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
            "category": self.weight * step.scale * category,
            "confusion": self.weight * growing * domain,
            "entropy": self.weight * growing * entropy,
        }


@register("align", "rtn")
class Rtn(ScheduledAlign, FeatureAlign):
    """Residual transfer: the source's classifier is the target's plus a small learned difference.

    The network itself is the target's classifier; the source learns through ``z + r(z)``, r a small network on the
    logits (pytorch-adapt's ``PlusResidual``). Beside this task loss: the entropy of the target's predictions, and the
    MMD between the fused rows ``f ⊗ p`` of both domains (Gaussian kernels, as in JAN).

    The network is used, and selected on source validation, without r: where r is large the source itself is served
    worse than it was trained.
    """

    reference: ClassVar[str] = (
        "Long et al. 2016, Unsupervised Domain Adaptation with Residual Transfer Networks, arXiv 1602.04433"
    )
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    target_logits: ClassVar[bool] = True

    compares: ClassVar[bool] = True

    weight: float = Field(1.0, ge=0, description="of the MMD of the fused rows, at the end of the schedule")
    entropy: float = Field(0.1, ge=0, description="of the entropy on the target, at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="both grow from 0, or are constant")
    features: Literal["pooled", "sampled"] = Field("sampled", description="one row per patch, or per sampled position")
    samples: int = Field(16, ge=1, description="positions per patch, for features: sampled")
    hidden: int = Field(16, ge=1, description="width of the residual network")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import Head
        from stainda.strategies.align.support.pytorch_adapt import layers

        return {"residual": layers.PlusResidual(Head(site.n_classes, self.hidden, site.n_classes))}

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.discrepancy import unit_bandwidth
        from stainda.strategies.align.support.pytorch_adapt import layers
        from stainda.strategies.align.support.rows import both_rows, rows_of

        assert step.target is not None and step.source.logits is not None and step.target.logits is not None
        assert step.loss is not None and step.source.labels is not None
        fused = []
        for rows in both_rows(step, self.features, self.samples, predictions=True):
            assert rows.probabilities is not None
            fused.append((rows.features.unsqueeze(2) * rows.probabilities.unsqueeze(1)).flatten(1))
        growing = self.growth(step)
        return {
            "task": step.loss(step.modules["residual"](step.source.logits), step.source.labels),
            "mmd": self.weight * growing * self._mmd(*unit_bandwidth(*fused)),
            "entropy": self.entropy * growing * layers.EntropyLoss()(rows_of(step.target.logits).float()),
        }

    @cached_property
    def _mmd(self) -> Any:
        from stainda.strategies.align.discrepancy import mmd_layer

        return mmd_layer("many", bandwidth=1.0)


def halves(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the two halves of the softmax over both heads' scores, each ``[N, K, ...]``."""
    import torch

    joined = torch.log_softmax(torch.cat([one, other], dim=1).float(), dim=1)
    first, second = joined.chunk(2, dim=1)
    return first, second


def _of_class(log_shares: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    """``-½ (log p_y + log p_{y+K})``, mean over labelled places (255 is none)."""
    from torch.nn.functional import nll_loss

    found = [nll_loss(half, labels, ignore_index=255, reduction="sum") for half in log_shares]
    return 0.5 * (found[0] + found[1]) / (labels != 255).sum().clamp(min=1)
