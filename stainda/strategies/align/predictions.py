"""What the parts share that align through the predictions on the target alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import ScheduledAlign, Step
from stainda.strategies.parts import Field

if TYPE_CHECKING:
    from torch import Tensor


class Predictions(ScheduledAlign):
    """Base of the parts that read the target's logits as rows: one per patch, per pixel, or per sampled pixel.

    ``sampled`` draws pixels evenly by predicted class; for a classification every patch is a row.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    target_logits: ClassVar[bool] = True

    weight: float = Field(0.1, ge=0, description="of the term added to the task loss, at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="the weight grows from 0, or is constant")
    features: Literal["spatial", "sampled"] = Field("spatial", description="every pixel, or sampled ones")
    samples: int = Field(64, ge=1, description="pixels per patch, for features: sampled")

    def losses(self, step: Step) -> dict[str, Tensor]:
        return {self.name: self.weight * self.growth(step) * self.distance(step)}

    def distance(self, step: Step) -> Tensor:
        from stainda.strategies.align.support.rows import predicted_rows

        assert step.target is not None and step.target.logits is not None
        return self.of_rows(predicted_rows(step.target.logits, self.features, self.samples, step.generator))

    def of_rows(self, logits: Tensor) -> Tensor:
        """The loss of target logits ``[M, K]``."""
        raise NotImplementedError
