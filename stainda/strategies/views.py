"""What the network sees: colours as they are, brought to a template, or reduced to fewer channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import PrivateAttr

from stainda.errors import ConfigError
from stainda.strategies.parts import Field, Part, register

if TYPE_CHECKING:
    from torch import Tensor

    from stainda.stains import ColourNormaliser


class View(Part):
    """Turns RGB patches into what the network sees, the same way in training and at a new slide.

    Class attributes:
        channels: of the result.
        is_colour: the result is RGB in 0..1 (a normaliser): colour augmentation then acts on the result. Otherwise it
            acts on the RGB patch before the view.
        fitted: the view needs a fit per slide; a slide without one is an error.
    """

    channels: ClassVar[int] = 3
    is_colour: ClassVar[bool] = True
    fitted: ClassVar[bool] = False

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
    channels: ClassVar[int] = 1
    is_colour: ClassVar[bool] = False

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
    channels: ClassVar[int] = 1
    is_colour: ClassVar[bool] = False

    dye: Literal["haematoxylin", "eosin", "dab"] = Field("haematoxylin", description="which dye's amount is seen")

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        from stainda.stains import HED_MATRIX, separate_tensor

        row = ("haematoxylin", "eosin", "dab").index(self.dye)
        return separate_tensor(images, images.new_tensor(HED_MATRIX))[:, row : row + 1]


class Normaliser(View):
    """A view that brings each slide's tissue to the colours of the source's training slides.

    Fitted once per slide on a sample of its tissue, never per patch. A slide that cannot be fitted is left as it is
    and is listed in :attr:`fallbacks`.
    """

    fitted: ClassVar[bool] = True
    method: ClassVar[Literal["reinhard", "macenko"]]

    _normaliser: ColourNormaliser | None = PrivateAttr(None)

    def fit(self, tissue_pixels: Mapping[str, np.ndarray], training_slides: Sequence[str]) -> None:
        from stainda.stains import ColourNormaliser

        self._normaliser = ColourNormaliser.fit(self.method, tissue_pixels, training_slides)

    def add_slide(self, name: str, pixels: np.ndarray) -> None:
        self._normaliser = self._fitted.with_slides({name: pixels})

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        return self._fitted.apply(images, slides)

    def state(self) -> dict[str, Any]:
        return self._fitted.to_dict()

    def restore(self, state: Mapping[str, Any]) -> None:
        from stainda.stains import ColourNormaliser

        self._normaliser = ColourNormaliser.from_dict(state)

    @property
    def fallbacks(self) -> dict[str, str]:
        return dict(self._fitted.fallbacks)

    @property
    def _fitted(self) -> ColourNormaliser:
        if self._normaliser is None:
            raise ConfigError(f"view {self.name!r} is used before it is fitted", remedy="Call fit() or restore() first")
        return self._normaliser


@register("view", "reinhard")
class Reinhard(Normaliser):
    """Mean and spread of each slide's tissue colours (CIE L*a*b*) made those of the source's training slides."""

    reference: ClassVar[str] = "Reinhard et al. 2001, Color Transfer between Images, IEEE CG&A 21(5)"
    method: ClassVar[Literal["reinhard", "macenko"]] = "reinhard"


@register("view", "macenko")
class Macenko(Normaliser):
    """The two stain vectors and strengths of each slide replaced by those of the source's training slides."""

    reference: ClassVar[str] = "Macenko et al. 2009, A Method for Normalizing Histology Slides, ISBI"
    method: ClassVar[Literal["reinhard", "macenko"]] = "macenko"
