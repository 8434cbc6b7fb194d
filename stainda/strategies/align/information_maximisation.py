"""Information maximisation: every prediction sure, all of them together varied."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.predictions import Predictions
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "information_maximisation")
class InformationMaximisation(Predictions):
    """Information maximisation: every prediction sure, all of them together varied.

    ``mean H(p) - diversity · H(mean p)`` (pytorch-adapt's ``EntropyLoss`` and ``DiversityLoss``). The second term keeps
    the first from answering one class everywhere; at its full weight it wants classes of equal size, which pixels of a
    rare structure are not: there, sample evenly by predicted class.
    """

    reference: ClassVar[str] = (
        "Liang et al. 2020, Do We Really Need to Access the Source Data? (SHOT), arXiv 2002.08546; "
        "Krause et al. 2010, NeurIPS"
    )

    features: Literal["spatial", "sampled"] = Field("sampled", description="every pixel, or sampled ones")
    diversity: float = Field(1.0, ge=0, description="of the entropy of the mean prediction")

    def of_rows(self, logits: Tensor) -> Tensor:
        from stainda.strategies.align.support.pytorch_adapt import layers

        return layers.EntropyLoss()(logits) + self.diversity * layers.DiversityLoss()(logits)
