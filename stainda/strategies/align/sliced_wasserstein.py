"""Sliced Wasserstein distance between the features of source and target."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step
from stainda.strategies.align.discrepancy import Discrepancy
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Generator, Tensor


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
