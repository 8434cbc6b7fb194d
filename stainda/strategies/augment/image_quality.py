"""Random losses of image quality: blur, noise and compression."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from stainda.strategies.augment.base import Augment
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from stainda.stains import Augmentation


@register("augment", "blur_noise")
class BlurNoiseAugment(Augment):
    """Gaussian blur and noise, as of scanners out of focus and of noisy ones."""

    reference: ClassVar[str] = "Tellez et al. 2019, Quantifying the effects of data augmentation, arXiv 1902.06543"

    blur: float = Field(1.0, ge=0, le=10, description="largest standard deviation of the blur, pixels")
    noise: float = Field(0.02, ge=0, le=0.5, description="largest standard deviation of the noise, of the range 0..1")
    p: float = Field(0.5, ge=0, le=1, description="share of patches blurred, and (drawn apart) with noise")

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import BlurNoise

        return BlurNoise(self.blur, self.noise, self.p)


@register("augment", "jpeg")
class JpegAugment(Augment):
    """The losses of JPEG compression, by quantising cosine coefficients as a JPEG file does."""

    reference: ClassVar[str] = "ITU-T T.81 (1992), baseline sequential process"

    low: int = Field(30, ge=1, le=100, description="lowest quality, in libjpeg's scale")
    high: int = Field(90, ge=1, le=100, description="highest quality")
    p: float = Field(0.5, ge=0, le=1, description="share of patches compressed")

    @model_validator(mode="after")
    def _in_order(self) -> JpegAugment:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import JpegLoss

        return JpegLoss(self.low, self.high, self.p)
