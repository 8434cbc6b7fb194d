"""Random changes of training patches, as parts of a strategy (the changes themselves are ``stainda.stains``')."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.parts import Field, Part, register

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from stainda.stains import Augmentation


class Augment(Part):
    """A random change of a batch, every patch with its own draw, in training only."""

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Float RGB ``[N, 3, H, W]`` in 0..1 and integer labels ``[N, H, W]`` to the same; a CPU generator."""
        images, changed = self._change(images, labels, generator)
        assert changed is not None
        return images, changed

    @cached_property
    def _change(self) -> Augmentation:
        raise NotImplementedError


@register("augment", "geometry")
class GeometryAugment(Augment):
    """Mirror images and quarter turns; on request any angle, scale and shift. Labels move along."""

    rotation: float = Field(0.0, ge=0, le=180, description="largest angle either way, degrees")
    scale: float = Field(0.0, ge=0, le=2, description="largest relative change of size: 0.2 is 1/1.2 to 1.2")
    shift: float = Field(0.0, ge=0, le=0.5, description="largest shift, as a share of the patch")
    p: float = Field(1.0, ge=0, le=1, description="share of patches rotated, scaled and shifted")

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import Geometry

        return Geometry(rotation=self.rotation, scale=self.scale, shift=self.shift, p=self.p)


@register("augment", "colour_jitter")
class ColourJitterAugment(Augment):
    """Random brightness, contrast, saturation and hue: ``light`` as another scanner, ``strong`` as another stain."""

    reference: ClassVar[str] = "Tellez et al. 2019, Quantifying the effects of data augmentation, arXiv 1902.06543"

    strength: Literal["light", "strong"] = Field("strong", description="how far colours may move")

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import ColourJitter

        return ColourJitter.of(self.strength)


@register("augment", "hed")
class HedAugment(Augment):
    """The amounts of haematoxylin, eosin and DAB each scaled and shifted at random, by colour deconvolution."""

    reference: ClassVar[str] = "Tellez et al. 2018, Whole-Slide Mitosis Detection, doi 10.1109/TMI.2018.2820199"

    sigma: float = Field(0.2, ge=0, le=1, description="spread of the change: 0.05 is light, 0.2 strong")

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import HedJitter

        return HedJitter(sigma=self.sigma)
