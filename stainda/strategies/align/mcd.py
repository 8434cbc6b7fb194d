"""MCD: maximum classifier discrepancy."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from stainda.strategies.align.base import Step
from stainda.strategies.align.heads import Heads
from stainda.strategies.parts import register

if TYPE_CHECKING:
    from torch import Tensor


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
    unscaled: ClassVar[tuple[str, ...]] = ("heads",)

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.gradient_reversal import reverse

        source, target = self.inputs(step)
        one, other = self.heads(step)
        seen = reverse(target, self.strength(step))
        return {
            "heads": self.task(step, one(source)) + self.task(step, other(source)),
            "discrepancy": -self._discrepancy(one(seen), other(seen)),
        }

    @cached_property
    def _discrepancy(self) -> Any:
        from stainda.strategies.align.support.pytorch_adapt import layers

        return layers.MCDLoss()
