"""What the parts share that align by a distance between the feature distributions of source and target."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import FeatureAlign, ScheduledAlign, Step
from stainda.strategies.parts import Field

if TYPE_CHECKING:
    from torch import Tensor

    from stainda.strategies.align.support.rows import Rows


class Discrepancy(ScheduledAlign, FeatureAlign):
    """Base of the parts that measure a distance between two sets of feature rows."""

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    compares: ClassVar[bool] = True
    term: ClassVar[str]

    weight: float = Field(1.0, ge=0, description="of the discrepancy, at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("constant", description="the weight grows from 0, or is constant")
    features: Literal["pooled", "spatial", "sampled"] = Field(
        "pooled", description="one row per patch, per position, or per sampled position"
    )
    samples: int = Field(16, ge=1, description="positions per patch, for features: sampled")
    domains: Literal["source_target", "each"] = Field(
        "source_target", description="source against target, or every pair of domains in the step"
    )

    def strength(self, step: Step) -> float:
        """The weight at this step."""
        return self.weight * self.growth(step)

    def losses(self, step: Step) -> dict[str, Tensor]:
        return {self.term: self.strength(step) * self.distance(step)}

    def distance(self, step: Step) -> Tensor:
        raise NotImplementedError

    def rows(self, step: Step) -> tuple[Rows, Rows]:
        """The chosen rows of source and target."""
        from stainda.strategies.align.support.rows import both_rows

        return both_rows(step, self.features, self.samples, self.target_logits)
