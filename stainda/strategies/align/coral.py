"""CORAL: equal covariances of the features of source and target."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import Step
from stainda.strategies.align.discrepancy import Discrepancy
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "coral")
class Coral(Discrepancy):
    """CORAL: the covariances of the features of source and target are made equal.

    ``‖C_s - C_t‖²_F / (4 d²)`` with the unbiased covariances of d features (pytorch-adapt's ``CORALLoss``). Means may
    still differ: of a shift it sees nothing. The division by d² makes it small; its weight is accordingly large.
    """

    reference: ClassVar[str] = "Sun & Saenko 2016, Deep CORAL, arXiv 1607.01719"

    weight: float = Field(
        100.0, ge=0, description="of the discrepancy added to the task loss, at the end of the schedule"
    )
    features: Literal["pooled", "spatial", "sampled"] = Field(
        "sampled", description="one row per patch, per position, or per sampled position"
    )

    term: ClassVar[str] = "coral"

    def distance(self, step: Step) -> Tensor:
        from stainda.strategies.align.support.pytorch_adapt import layers
        from stainda.strategies.align.support.rows import on_pairs

        source, target = self.rows(step)
        return on_pairs(source, target, self.domains == "each", layers.CORALLoss())
