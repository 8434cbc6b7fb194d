"""JAN: joint maximum mean discrepancy of features and predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import Step
from stainda.strategies.align.discrepancy import Discrepancy
from stainda.strategies.align.mmd import unit_bandwidth
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "jan")
class Jan(Discrepancy):
    """Joint MMD: features and predictions of source and target are compared together.

    As MMD, with the kernel of a pair of rows the product of that of their features (median squared distance, as there)
    and that of their class probabilities, one Gaussian ``exp(-‖p-q‖² / 1.68)``, the fixed bandwidth of the authors'
    code. A bandwidth taken from the predictions, as pytorch-adapt's ``MMDLoss`` on lists does, is next to nothing while
    they are all alike: it blew the term's gradient up to more than the task's.
    """

    reference: ClassVar[str] = (
        "Long et al. 2017, Deep Transfer Learning with Joint Adaptation Networks, arXiv 1605.06636"
    )
    target_logits: ClassVar[bool] = True

    features: Literal["pooled", "sampled"] = Field("pooled", description="one row per patch, or per sampled position")
    kernels: Literal["single", "many"] = Field("many", description="one bandwidth, the median, or 33 from 2^-8 to 2^8")

    term: ClassVar[str] = "joint_mmd"

    def distance(self, step: Step) -> Tensor:
        from torch import cat

        from stainda.strategies.align.support.rows import Rows, on_pairs

        joint, width = [], 0
        for rows in self.rows(step):
            assert rows.probabilities is not None
            width = rows.features.shape[1]
            joint.append(Rows(cat([rows.features, rows.probabilities], 1), rows.patch, rows.domains))

        def distance(source: Tensor, target: Tensor) -> Tensor:
            seen = unit_bandwidth(source[:, :width], target[:, :width])
            shares = (source[:, width:] * BANDWIDTH**-0.5, target[:, width:] * BANDWIDTH**-0.5)
            return unbiased_mmd(
                lambda one, other: (
                    gaussian(seen[one], seen[other], self.kernels) * gaussian(shares[one], shares[other], "single")
                )
            )

        return on_pairs(joint[0], joint[1], self.domains == "each", distance)


BANDWIDTH = 1.68
"""Of the kernel of class probabilities in JAN: the authors' (github.com/thuml/Xlearn, ``fix_sigma_list``)."""


def gaussian(one: Tensor, other: Tensor, kernels: Literal["single", "many"]) -> Tensor:
    """``exp(-‖a-b‖²)`` of rows ``[M, C]`` and ``[L, C]``, ``[M, L]``; of ``many`` the mean over the scales of MMD."""
    import torch

    from stainda.strategies.align.support.pytorch_adapt import get_kernel_scales

    squared = (one.unsqueeze(1) - other.unsqueeze(0)).square().sum(-1)
    if kernels == "single":
        return torch.exp(-squared)
    return sum((torch.exp(-float(scale) * squared) for scale in get_kernel_scales()), squared * 0.0) / len(
        get_kernel_scales()
    )


def unbiased_mmd(kernel: Callable[[int, int], Tensor]) -> Tensor:
    """``E k(x,x') + E k(y,y') - 2 E k(x,y)`` over pairs of different rows (Gretton et al. 2012, eq. 3).

    Args:
        kernel: of the rows of two sides (0: source, 1: target), ``[M, L]``.
    """
    within = []
    for side in (0, 1):
        values = kernel(side, side)
        within.append((values.sum() - values.diagonal().sum()) / (len(values) * (len(values) - 1)))
    return within[0] + within[1] - 2 * kernel(0, 1).mean()
