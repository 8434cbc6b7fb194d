"""Alignment through the predictions on the target alone: sure, varied, and not confusing one class with another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import ScheduledAlign, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


class Predictions(ScheduledAlign):
    """Base of the parts that read the target's logits as rows: one per patch, per pixel, or per sampled pixel.

    ``sampled`` draws pixels evenly by predicted class; for a classification every patch is a row.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    target_logits: ClassVar[bool] = True

    weight: float = Field(0.1, ge=0, description="of the term beside the task loss, at the end of the schedule")
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


@register("align", "mcc")
class Mcc(Predictions):
    """Minimum class confusion: no two classes are predicted together.

    With P the softmax at temperature T of M rows and W their weights ``1 + exp(-H)`` of mean 1, the confusion is
    ``C = Pᵀ W P`` with its rows divided by their sums; the loss is the mean over classes of what lies off its diagonal
    (pytorch-adapt's ``MCCLoss``).
    """

    reference: ClassVar[str] = "Jin et al. 2020, Minimum Class Confusion, arXiv 1912.03699"

    weight: float = Field(1.0, ge=0, description="of the term beside the task loss, at the end of the schedule")
    features: Literal["spatial", "sampled"] = Field("sampled", description="every pixel, or sampled ones")
    temperature: float = Field(2.5, gt=0, description="T, above 1 for softer predictions")

    def of_rows(self, logits: Tensor) -> Tensor:
        from stainda.strategies.align.support.pytorch_adapt import layers

        return layers.MCCLoss(T=self.temperature)(logits)


@register("align", "bnm")
class Bnm(Predictions):
    """Batch nuclear-norm maximisation: predictions sure and varied at once.

    ``-‖P‖_* / √(M D)``, the sum of the singular values of the softmax P of M rows and K classes, D = min(M, K). It is
    -1, its least, where every row is sure and all classes are equally frequent, whatever M is. Singular values grow
    with √M: divided by M (pytorch-adapt's ``BNMLoss``) the term fades with the number of rows, divided
    by D (the authors' code) it grows. For the authors' 36 rows of 31 classes all three agree within 8 %.
    """

    reference: ClassVar[str] = (
        "Cui et al. 2020, Towards Discriminability and Diversity: Batch Nuclear-norm Maximization, arXiv 2003.12237"
    )

    weight: float = Field(1.0, ge=0, description="of the term beside the task loss, at the end of the schedule")
    features: Literal["spatial", "sampled"] = Field("sampled", description="every pixel, or sampled ones")

    def of_rows(self, logits: Tensor) -> Tensor:
        import torch

        shares = torch.softmax(logits, dim=1)
        return -torch.linalg.matrix_norm(shares, "nuc") / math.sqrt(shares.shape[0] * min(shares.shape))
