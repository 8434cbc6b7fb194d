"""V-REx: the groups' losses are to be equal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step
from stainda.strategies.align.groups import Penalised
from stainda.strategies.parts import register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "vrex")
class Vrex(Penalised):
    """Risk extrapolation: the groups' losses are to be equal; the penalty is their variance.

    ``λ · mean_g (L_g - mean L)²`` next to the mean loss.
    """

    reference: ClassVar[str] = "Krueger et al. 2021, Out-of-Distribution Generalization via REx, arXiv 2003.00688"

    def penalty(self, step: Step, members: list[tuple[int, Tensor]], losses: list[Tensor]) -> Tensor:
        return spread(losses)


def spread(losses: Iterable[Tensor]) -> Tensor:
    """Mean squared deviation of scalars from their mean."""
    import torch

    values = torch.stack(list(losses))
    return ((values - values.mean()) ** 2).mean()
