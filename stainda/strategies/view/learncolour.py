"""A view through a map of colours that is learned with the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.parts import Field, register
from stainda.strategies.view.base import View

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("view", "learncolour")
class LearnedColour(View):
    """Colours go through a map that is learned with the network: 1 x 1 convolutions before its first layer.

    ``x + f(x)``, f being two 1 x 1 convolutions with ReLU between them (``hidden`` > 0) or one (``hidden`` 0), zero at
    the start, so that training begins at the colours as they are. The name is that of Lampert et al.; their layer's
    exact form is not published in what could be read, so this is stainda's.
    """

    reference: ClassVar[str] = "Lampert et al. 2018, Strategies for Training Stain Invariant CNNs, arXiv 1810.10338"

    hidden: int = Field(8, ge=0, le=256, description="channels between the two convolutions; 0: one convolution")

    def prepare(self, network: nn.Module) -> None:
        from stainda.strategies.view.colour_map import put_before

        put_before(network, self.channels, self.hidden)

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        return images
