"""AdaptSegNet: softmax maps of the target that look like the source's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.output_space import OutputAdversarial
from stainda.strategies.parts import register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "adaptsegnet")
class AdaptSegNet(OutputAdversarial):
    """Output-space adversarial training: softmax maps of the target that look like the source's.

    D sees the softmax probabilities. Segmentations share layout across domains even where colours differ, so their
    space is smaller and more alike than that of features. One level (the output) is used, the paper's single-level
    variant.
    """

    reference: ClassVar[str] = (
        "Tsai et al. 2018, Learning to Adapt Structured Output Space for Semantic Segmentation, arXiv 1802.10349"
    )

    def maps(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(1)
