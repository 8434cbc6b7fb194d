"""Random changes of colour."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.augment.base import Augment
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from stainda.stains import Augmentation


@register("augment", "colour_jitter")
class ColourJitterAugment(Augment):
    """Random brightness, contrast, saturation and hue: ``light`` as another scanner, ``strong`` as another stain."""

    reference: ClassVar[str] = "Tellez et al. 2019, Quantifying the effects of data augmentation, arXiv 1902.06543"

    strength: Literal["light", "strong"] = Field("strong", description="how far colours may move")
    hue: float | None = Field(
        None, ge=0, le=0.5, description="largest turn of hue either way, 0.5 for any hue; default the strength's"
    )

    @cached_property
    def _change(self) -> Augmentation:
        from dataclasses import replace

        from stainda.stains import ColourJitter

        jitter = ColourJitter.of(self.strength)
        return jitter if self.hue is None else replace(jitter, hue=self.hue)


@register("augment", "hed")
class HedAugment(Augment):
    """The amounts of haematoxylin, eosin and DAB each scaled and shifted at random, by colour deconvolution."""

    reference: ClassVar[str] = "Tellez et al. 2018, Whole-Slide Mitosis Detection, doi 10.1109/TMI.2018.2820199"
    mixes_densities: ClassVar[bool] = True

    sigma: float = Field(0.2, ge=0, le=1, description="spread of the change: 0.05 is light, 0.2 strong")
    shift: float | None = Field(None, ge=0, le=1, description="spread of what is added; default sigma")

    @cached_property
    def _change(self) -> Augmentation:
        from dataclasses import replace

        from stainda.stains import HedJitter

        jitter = HedJitter(sigma=self.sigma)
        if self.shift is None or self.sigma == 0:
            return jitter
        return replace(jitter, offset=jitter.offset * self.shift / self.sigma)


@register("augment", "channel_swap")
class ChannelSwapAugment(Augment):
    """Red, green and blue in a random order."""

    reference: ClassVar[str] = "Lampert et al. 2018, Strategies for Training Stain Invariant CNNs, arXiv 1810.10338"

    p: float = Field(1.0, ge=0, le=1, description="share of patches whose channels are shuffled")

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import ChannelShuffle

        return ChannelShuffle(self.p)
