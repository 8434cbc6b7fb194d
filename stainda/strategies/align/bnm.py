"""Batch nuclear-norm maximisation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.predictions import Predictions
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


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

    weight: float = Field(1.0, ge=0, description="of the term added to the task loss, at the end of the schedule")
    features: Literal["spatial", "sampled"] = Field("sampled", description="every pixel, or sampled ones")

    def of_rows(self, logits: Tensor) -> Tensor:
        import torch

        shares = torch.softmax(logits, dim=1)
        return -torch.linalg.matrix_norm(shares, "nuc") / math.sqrt(shares.shape[0] * min(shares.shape))
