"""Random changes of place and shape; labels move along."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.augment.base import Augment
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from stainda.stains import Augmentation


@register("augment", "geometry")
class GeometryAugment(Augment):
    """Mirror images, quarter turns and scale; on request any angle and shift. Labels move along.

    The scale comes from the window that is cut from a patch and its stored margin, so that a reduced patch shows what
    lies around it; patches of paired sections are stored without a margin, and mirrored there.
    """

    rotation: float = Field(0.0, ge=0, le=180, description="largest angle either way, degrees")
    scale: float = Field(0.5, ge=0, le=2, description="largest relative change of size: 0.2 is 1/1.2 to 1.2")
    shift: float = Field(0.0, ge=0, le=0.5, description="largest shift, as a share of the patch")
    p: float = Field(1.0, ge=0, le=1, description="share of patches rotated and shifted, and (drawn apart) scaled")

    @property
    def zoom(self) -> tuple[float, float] | None:
        return self.scale, self.p

    def without_zoom(self) -> GeometryAugment:
        return self if self.scale == 0 else GeometryAugment(rotation=self.rotation, shift=self.shift, p=self.p, scale=0)

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import Geometry

        return Geometry(rotation=self.rotation, scale=self.scale, shift=self.shift, p=self.p)


@register("augment", "elastic")
class ElasticAugment(Augment):
    """Tissue stretched and bent smoothly. Labels move along."""

    reference: ClassVar[str] = (
        "Simard et al. 2003, Best Practices for Convolutional Neural Networks, doi 10.1109/ICDAR.2003.1227801"
    )

    alpha: float = Field(100.0, ge=0, description="strength; displacements are about 0.163 alpha / sigma pixels")
    sigma: float = Field(10.0, gt=0, description="smoothness, pixels")
    p: float = Field(0.5, ge=0, le=1, description="share of patches deformed")

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import Elastic

        return Elastic(self.alpha, self.sigma, self.p)
