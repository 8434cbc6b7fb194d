"""ADVENT: entropy maps of the target that look like the source's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.output_space import OutputAdversarial
from stainda.strategies.parts import register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "advent")
class Advent(OutputAdversarial):
    """Adversarial training on entropy maps: the target's outputs are to be as sure as the source's.

    D sees the weighted self-information ``-p_k log p_k / log K`` of every class and pixel, whose sum over classes is
    the normalised entropy.
    """

    reference: ClassVar[str] = (
        "Vu et al. 2019, ADVENT: Adversarial Entropy Minimization for Domain Adaptation, arXiv 1811.12833"
    )

    def maps(self, logits: Tensor) -> Tensor:
        import math

        logs = logits.float().log_softmax(1)
        return -logs.exp() * logs / math.log(logits.shape[1])
