"""What is left of a slide without its own dye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from stainda.arrays import Array
from stainda.errors import ConfigError
from stainda.strategies.parts import register
from stainda.strategies.view.base import View
from stainda.strategies.view.normalisers import not_fitted

if TYPE_CHECKING:
    from torch import Tensor


@register("view", "residual")
class Residual(View):
    """Everything but the slide's own dye: haematoxylin, and the density outside the plane of both; two channels.

    The two stain vectors of each slide are fitted on its tissue (Macenko 2009); the one that takes more red light is
    taken for the nuclear dye, the other (Schiff, eosin, DAB, red chromogen) is left out. Where they cannot be fitted,
    the published vectors of haematoxylin and DAB stand in, and the slide is listed.
    """

    reference: ClassVar[str] = (
        "Ruifrok & Johnston 2001, Anal Quant Cytol Histol 23:291; vectors by Macenko et al. 2009; stainda's composition"
    )
    is_colour: ClassVar[bool] = False
    fitted: ClassVar[bool] = True

    _vectors: dict[str, list[list[float]]] | None = PrivateAttr(None)
    _reasons: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def channels(self) -> int:
        return 2

    def fit(self, tissue_pixels: Mapping[str, Array], training_slides: Sequence[str]) -> None:
        self._vectors, self._reasons = {}, {}
        for name, pixels in tissue_pixels.items():
            self.add_slide(name, pixels)

    def add_slide(self, name: str, pixels: Array) -> None:
        from stainda.stains import HED_MATRIX, MacenkoFit

        result = MacenkoFit.fit(pixels)
        rows = np.asarray(result.vectors) if not result.fallback else HED_MATRIX[[0, 2]]
        self._vectors = {**(self._vectors or {}), name: rows.tolist()}
        self._reasons = {key: reason for key, reason in self._reasons.items() if key != name}
        if result.fallback:
            self._reasons[name] = f"{result.fallback}; published vectors of haematoxylin and DAB"

    def __call__(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        from stainda.stains import completed, separate_tensor

        if self._vectors is None:
            raise not_fitted(self)
        if missing := sorted(set(slides) - set(self._vectors)):
            raise ConfigError(f"slide {missing[0]!r} has no fit", remedy="Add its tissue with add_slide()")
        matrices = np.stack([completed(self._vectors[slide]) for slide in slides])
        return separate_tensor(images, images.new_tensor(matrices))[:, [0, 2]]

    def state(self) -> dict[str, Any]:
        return {"vectors": self._vectors or {}, "reasons": self._reasons}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._vectors, self._reasons = dict(state["vectors"]), dict(state["reasons"])

    def told(self, slide: str) -> str:
        return "the slide's own dye left out, by its stain vectors"

    @property
    def fallbacks(self) -> dict[str, str]:
        return dict(self._reasons)
