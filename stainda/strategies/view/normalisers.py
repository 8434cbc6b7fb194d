"""Colour normalisers: each slide's tissue brought to the colours of the source's training slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PrivateAttr

from stainda.arrays import Array
from stainda.errors import ConfigError
from stainda.strategies.parts import Field, register
from stainda.strategies.view.base import View

if TYPE_CHECKING:
    from torch import Tensor

    from stainda.stains import ColourNormaliser


class Normaliser(View):
    """A view that brings each slide's tissue to the colours of the source's training slides.

    Fitted once per slide on a sample of its tissue, never per patch. A slide that cannot be fitted is left as it is
    and is listed in :attr:`fallbacks`.
    """

    fitted: ClassVar[bool] = True
    method: ClassVar[Literal["reinhard", "macenko", "vahadane", "histogram"]]

    _normaliser: ColourNormaliser | None = PrivateAttr(None)

    @property
    def _dyes(self) -> int:
        return 2

    def fit(self, tissue_pixels: Mapping[str, Array], training_slides: Sequence[str]) -> None:
        from stainda.stains import ColourNormaliser

        self._normaliser = ColourNormaliser.fit(self.method, tissue_pixels, training_slides, self._dyes)

    def add_slide(self, name: str, pixels: Array) -> None:
        self._normaliser = self._fitted.with_slides({name: pixels})

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        return self._fitted.apply(images, slides)

    def state(self) -> dict[str, Any]:
        return self._fitted.to_dict()

    def restore(self, state: Mapping[str, Any]) -> None:
        from stainda.stains import ColourNormaliser

        self._normaliser = ColourNormaliser.from_dict(state)

    def told(self, slide: str) -> str:
        return f"colours brought to the training slides' by {self.name}"

    @property
    def fallbacks(self) -> dict[str, str]:
        return dict(self._fitted.fallbacks)

    @property
    def _fitted(self) -> ColourNormaliser:
        if self._normaliser is None:
            raise not_fitted(self)
        return self._normaliser


@register("view", "reinhard")
class Reinhard(Normaliser):
    """Mean and spread of each slide's tissue colours (CIE L*a*b*) made those of the source's training slides."""

    reference: ClassVar[str] = "Reinhard et al. 2001, Color Transfer between Images, IEEE CG&A 21(5)"
    method: ClassVar[Literal["reinhard", "macenko", "vahadane", "histogram"]] = "reinhard"


@register("view", "macenko")
class Macenko(Normaliser):
    """The two stain vectors and strengths of each slide replaced by those of the source's training slides."""

    reference: ClassVar[str] = "Macenko et al. 2009, A Method for Normalizing Histology Slides, ISBI"
    method: ClassVar[Literal["reinhard", "macenko", "vahadane", "histogram"]] = "macenko"
    mixes_densities: ClassVar[bool] = True


@register("view", "vahadane")
class Vahadane(Normaliser):
    """As ``macenko``, the stain vectors found by sparse non-negative matrix factorisation; two or three dyes."""

    reference: ClassVar[str] = (
        "Vahadane et al. 2016, Structure-Preserving Color Normalization, IEEE TMI 35(8), doi 10.1109/TMI.2016.2529665"
    )
    mixes_densities: ClassVar[bool] = True
    method: ClassVar[Literal["reinhard", "macenko", "vahadane", "histogram"]] = "vahadane"

    dyes: int = Field(2, ge=2, le=3, description="dyes per slide")

    @property
    def _dyes(self) -> int:
        return self.dyes


@register("view", "histogram_matching")
class HistogramMatching(Normaliser):
    """Red, green and blue of each slide's tissue given the distribution of the source's training slides."""

    reference: ClassVar[str] = "Gonzalez & Woods, Digital Image Processing, section 3.3.2"
    method: ClassVar[Literal["reinhard", "macenko", "vahadane", "histogram"]] = "histogram"


def not_fitted(view: View) -> ConfigError:
    return ConfigError(f"view {view.name!r} is used before it is fitted", remedy="Call fit() or restore() first")
