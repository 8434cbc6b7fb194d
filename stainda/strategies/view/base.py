"""What every view is given and gives back; the view that leaves the colours as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from stainda.arrays import Array
from stainda.strategies.parts import Part, register

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

    def fit(self, tissue_pixels: Mapping[str, Array], training_slides: Sequence[str]) -> None:
        """Fit the template and every slide.

        Args:
            tissue_pixels: per slide uint8 ``(n, 3)``, RGB of tissue.
            training_slides: slides the template may be made from: training patients of the source domains.
        """

    def add_slide(self, name: str, pixels: Array) -> None:
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
