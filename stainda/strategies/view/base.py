"""What the network sees: colours as they are, brought to a template, or reduced to fewer channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from stainda.strategies.parts import Field, Part, register

if TYPE_CHECKING:
    from torch import Tensor, nn


class View(Part):
    """Turns RGB patches into what the network sees, the same way in training and at a new slide.

    Class attributes:
        is_colour: the result is RGB in 0..1 (a normaliser): colour augmentation then acts on the result. Otherwise it
            acts on the RGB patch before the view.
        fitted: the view needs a fit per slide; a slide without one is an error.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    is_colour: ClassVar[bool] = True
    fitted: ClassVar[bool] = False

    @property
    def channels(self) -> int:
        """Channels of the result."""
        return 3

    def prepare(self, network: nn.Module) -> None:
        """Change the network before training (and before its weights are loaded for prediction)."""

    def fit(self, tissue_pixels: Mapping[str, np.ndarray], training_slides: Sequence[str]) -> None:
        """Fit the template and every slide.

        Args:
            tissue_pixels: per slide uint8 ``(n, 3)``, RGB of tissue.
            training_slides: slides the template may be made from: training patients of the source domains.
        """

    def add_slide(self, name: str, pixels: np.ndarray) -> None:
        """Fit one more slide (at prediction) from its tissue pixels, uint8 ``(n, 3)``; replaces an earlier fit."""

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        """Float RGB ``[N, 3, H, W]`` in 0..1, and the slide of each patch, to float ``[N, channels, H, W]``."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """All that was fitted, as JSON-like values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave."""

    def told(self, slide: str) -> str:
        """What was done to the colours of a slide added last, in a sentence for the person who predicts."""
        return f"view {self.name}"

    @property
    def fallbacks(self) -> dict[str, str]:
        """Slides whose fit failed, with the reason; they are left as they are."""
        return {}


@register("view", "rgb")
class Rgb(View):
    """The colours as they are."""

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        return images


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
