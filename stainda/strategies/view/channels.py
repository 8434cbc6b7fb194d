"""Views of fewer or other channels: greyscale, dyes by colour deconvolution, optical density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.parts import Field, register
from stainda.strategies.view.base import View

if TYPE_CHECKING:
    from torch import Tensor


@register("view", "greyscale")
class Greyscale(View):
    """Luminance (Rec. 709): hue cannot mislead the network, nor help it."""

    reference: ClassVar[str] = "Lampert et al. 2018, Strategies for Training Stain Invariant CNNs, arXiv 1810.10338"
    is_colour: ClassVar[bool] = False

    @property
    def channels(self) -> int:
        return 1

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        from stainda.stains import greyscale

        return greyscale(images)


@register("view", "deconvolved")
class Deconvolved(View):
    """The optical density of one dye, haematoxylin by default, by colour deconvolution.

    ``OD = -log10(I)``, and ``OD @ inverse(vectors)`` are the amounts of haematoxylin, eosin and DAB. The nuclear dye is
    what most stains share.
    """

    reference: ClassVar[str] = (
        "Ruifrok & Johnston 2001, Anal Quant Cytol Histol 23:291; as a strategy Lampert et al. 2018"
    )
    is_colour: ClassVar[bool] = False

    dye: Literal["haematoxylin", "eosin", "dab"] = Field("haematoxylin", description="which dye's amount is seen")

    @property
    def channels(self) -> int:
        return 1

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        from stainda.stains import HED_MATRIX, separate_tensor

        row = ("haematoxylin", "eosin", "dab").index(self.dye)
        return separate_tensor(images, images.new_tensor(HED_MATRIX))[:, row : row + 1]


@register("view", "dyes")
class Dyes(View):
    """The optical densities of several dyes at once, haematoxylin and DAB by default, by colour deconvolution.

    As ``deconvolved``, a channel per dye in the order given. Leaving a dye out takes its colour from the network.
    """

    reference: ClassVar[str] = "Ruifrok & Johnston 2001, Anal Quant Cytol Histol 23:291"
    is_colour: ClassVar[bool] = False

    dyes: tuple[Literal["haematoxylin", "eosin", "dab"], ...] = Field(
        ("haematoxylin", "dab"), min_length=1, max_length=3, description="which dyes' amounts are seen"
    )

    @property
    def channels(self) -> int:
        return len(self.dyes)

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        from stainda.stains import HED_MATRIX, separate_tensor

        rows = [("haematoxylin", "eosin", "dab").index(dye) for dye in self.dyes]
        return separate_tensor(images, images.new_tensor(HED_MATRIX))[:, rows]


@register("view", "optical_density")
class OpticalDensity(View):
    """Optical density ``-log10(I)`` of red, green and blue: amounts of dye add up in it, light does not."""

    reference: ClassVar[str] = "Ruifrok & Johnston 2001, Anal Quant Cytol Histol 23:291"
    is_colour: ClassVar[bool] = False

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        from stainda.stains import density_tensor

        return density_tensor(images)
