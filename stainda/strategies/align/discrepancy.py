"""Alignment by a distance between the feature distributions of source and target."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stainda.strategies.align.base import FeatureAlign, ScheduledAlign, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from stainda.strategies.align.support.rows import Rows


class Discrepancy(ScheduledAlign, FeatureAlign):
    """Base of the parts that measure a distance between two sets of feature rows."""

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    compares: ClassVar[bool] = True
    term: ClassVar[str]

    weight: float = Field(1.0, ge=0, description="of the discrepancy beside the task loss, at the end of the schedule")
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


@register("align", "mmd")
class Mmd(Discrepancy):
    """Maximum mean discrepancy between features of source and target.

    With k the mean of Gaussian kernels ``exp(-s ‖a-b‖² / m)`` (m: median squared distance within the source batch, or
    the mean where half of these are 0, as among two rows; s: the scales), the loss is the unbiased estimate
    ``E k(x,x') + E k(y,y') - 2 E k(x,y)`` over pairs of rows, as pytorch-adapt's ``AlignerHook`` and
    ``MMDLoss(mmd_type="quadratic")`` compute it. It may be slightly negative.
    """

    reference: ClassVar[str] = (
        "Long et al. 2015, Learning Transferable Features with Deep Adaptation Networks, arXiv 1502.02791"
    )

    features: Literal["pooled", "sampled"] = Field("pooled", description="one row per patch, or per sampled position")
    kernels: Literal["single", "many"] = Field(
        "single", description="one bandwidth, the median, or 33 from 2^-8 to 2^8"
    )

    term: ClassVar[str] = "mmd"

    def distance(self, step: Step) -> Tensor:
        from stainda.strategies.align.support.rows import on_pairs

        source, target = self.rows(step)
        return on_pairs(source, target, self.domains == "each", self._between)

    def _between(self, source: Tensor, target: Tensor) -> Tensor:
        source, target = unit_bandwidth(source, target)
        _, losses = self._hook({"src_imgs_features": source, "target_imgs_features": target}, {})
        return losses["features_confusion_loss"]

    @cached_property
    def _hook(self) -> Any:
        from stainda.strategies.align.support.pytorch_adapt import hooks

        return hooks.AlignerHook(loss_fn=mmd_layer(self.kernels, bandwidth=1.0))


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
            told = (source[:, width:] * BANDWIDTH**-0.5, target[:, width:] * BANDWIDTH**-0.5)
            return unbiased_mmd(
                lambda one, other: (
                    gaussian(seen[one], seen[other], self.kernels) * gaussian(told[one], told[other], "single")
                )
            )

        return on_pairs(joint[0], joint[1], self.domains == "each", distance)


@register("align", "coral")
class Coral(Discrepancy):
    """CORAL: the covariances of the features of source and target are made equal.

    ``‖C_s - C_t‖²_F / (4 d²)`` with the unbiased covariances of d features (pytorch-adapt's ``CORALLoss``). Means may
    still differ: of a shift it sees nothing. The division by d² makes it small; its weight is accordingly large.
    """

    reference: ClassVar[str] = "Sun & Saenko 2016, Deep CORAL, arXiv 1607.01719"

    weight: float = Field(
        100.0, ge=0, description="of the discrepancy beside the task loss, at the end of the schedule"
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


@register("align", "sliced_wasserstein")
class SlicedWasserstein(Discrepancy):
    """Sliced Wasserstein distance between the features of source and target.

    The mean over random directions of ``W_2²`` of the projections, which in one dimension is the mean squared
    difference of the sorted values. Between features, as pytorch-adapt offers it; Lee et al. use it between the two
    classifiers of MCD. Own code: that of pytorch-adapt ignores the number of directions and draws them from the global
    generator.
    """

    reference: ClassVar[str] = "Lee et al. 2019, Sliced Wasserstein Discrepancy, arXiv 1903.04064"

    directions: int = Field(128, ge=1, description="random directions of each step")

    term: ClassVar[str] = "wasserstein"

    def distance(self, step: Step) -> Tensor:
        from stainda.strategies.align.support.rows import on_pairs

        source, target = self.rows(step)

        def distance(one: Tensor, other: Tensor) -> Tensor:
            return sliced_wasserstein(one, other, self.directions, step.generator)

        return on_pairs(source, target, self.domains == "each", distance, least=1)


def sliced_wasserstein(one: Tensor, other: Tensor, directions: int, generator: Generator | None = None) -> Tensor:
    """``E_u W_2²(u·x, u·y)`` over random unit vectors u, rows ``[M, C]`` and ``[L, C]``.

    Where M and L differ the quantile functions are compared at max(M, L) evenly spaced levels.
    """
    import torch

    drawn = torch.randn(one.shape[1], directions, generator=generator).to(one)
    drawn = drawn / drawn.norm(dim=0)
    sorted_ = [(rows @ drawn).sort(dim=0).values for rows in (one, other)]
    count = max(len(one), len(other))
    levels = (torch.arange(count, device=one.device) + 0.5) / count
    first, second = (values[(levels * len(values)).long()] for values in sorted_)
    return (first - second).square().mean()


def mmd_layer(kernels: Literal["single", "many"], bandwidth: float | None = None) -> Any:
    """pytorch-adapt's unbiased MMD of rows."""
    from stainda.strategies.align.support.pytorch_adapt import get_kernel_scales, layers

    scales = get_kernel_scales() if kernels == "many" else 1.0
    return layers.MMDLoss(kernel_scales=scales, mmd_type="quadratic", bandwidth=bandwidth)


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


def unit_bandwidth(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both divided by a number, so that the median squared distance within the source is 1 (the mean, if it is 0).

    The median is over pairs of different rows: with the zeros of every row and itself it would depend on their number.
    """
    import torch

    with torch.no_grad():
        squared = torch.nn.functional.pdist(source).square()
        squared = squared if len(squared) else source.new_zeros(1)
        bandwidth = squared.median()
        bandwidth = torch.where(bandwidth > 1e-8, bandwidth, squared.mean().clamp(min=1e-8))
        scale = bandwidth.rsqrt()
    return source * scale, target * scale
