"""What the parts share that align through two classifiers of their own in addition to the network's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import FeatureAlign, ScheduledAlign, Site, Step
from stainda.strategies.parts import Field

if TYPE_CHECKING:
    from torch import Tensor, nn


class Heads(ScheduledAlign, FeatureAlign):
    """Base of the parts with two classifiers on the decoder's features, at every pixel (or per patch).

    They teach the features and are then left behind: the network is used with its own classifier, which learns the task
    next to them, so that a strategy never changes what a trained network is.
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
    def task(step: Step, logits: Tensor) -> Tensor:
        """The task loss of a head's scores on the source."""
        from stainda.strategies.align.support.rows import like_logits

        assert step.source.logits is not None
        return step.task_loss_of(like_logits(logits, step.source.logits))
