"""Entropy minimisation on the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.predictions import Predictions
from stainda.strategies.parts import register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "entropy")
class Entropy(Predictions):
    """Entropy minimisation: the boundary is pushed out of where the target's patches or pixels lie.

    ``mean H(softmax(z))`` (pytorch-adapt's ``EntropyLoss``). It makes sure what is already believed: where the network
    starts wrong it becomes sure of that.
    """

    reference: ClassVar[str] = "Grandvalet & Bengio 2005, Semi-supervised Learning by Entropy Minimization, NeurIPS"

    def of_rows(self, logits: Tensor) -> Tensor:
        from stainda.strategies.align.support.pytorch_adapt import layers

        return layers.EntropyLoss()(logits)
