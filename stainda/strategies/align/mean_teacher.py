"""Mean teacher: consistency with a slowly following copy of the network on unlabelled patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step, ramp_up
from stainda.strategies.align.teachers import TeacherAlign
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "mean_teacher")
class MeanTeacher(TeacherAlign):
    """A slowly following copy of the network tells it what to say on augmented target patches.

    The teacher sees the patch without augmentation; its probabilities are warped to where the augmented patch shows
    them, and the loss is their mean squared difference from the student's. The teacher is what is validated and kept.
    """

    reference: ClassVar[str] = (
        "Tarvainen & Valpola 2017, Mean teachers, arXiv 1703.01780; for segmentation Perone et al. 2019, 1811.06042"
    )

    weight: float = Field(5.0, ge=0, description="of the consistency loss, once it has grown")
    grow: float = Field(0.4, ge=0, le=1, description="share of the steps during which the weight grows")

    def losses(self, step: Step) -> dict[str, Tensor]:
        batch = step.target
        assert batch is not None and batch.logits is not None
        wanted, known = self.taught(step)
        apart = ((batch.logits.float().softmax(1) - wanted) ** 2).sum(1)
        weight = self.weight * ramp_up(self.grow, step.progress)
        return {"consistency": weight * (apart * known).sum() / known.sum().clamp(min=1)}
