"""Random changes of training patches, as parts of a strategy (the changes themselves are ``stainda.stains``')."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PrivateAttr, model_validator

from stainda.errors import ConfigError
from stainda.strategies.parts import Field, Part, register

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from stainda.stains import Augmentation, TemplateStatistics

Shown = Callable[[], "Tensor"]
"""Gives some patches, float RGB ``[N, 3, H, W]`` in 0..1 as augmentation meets them; reads them when it is called."""


class Augment(Part):
    """A random change of a batch, every patch with its own draw, in training only."""

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")

    @property
    def needs_targets(self) -> bool:
        """Whether unlabelled target images have to be visible in training."""
        return False

    @property
    def zoom(self) -> tuple[float, float] | None:
        """Largest relative change of size and the share of patches it falls on, where the part changes sizes."""
        return None

    def without_zoom(self) -> Augment:
        """The part without its change of size, for patches that were cut at another size already."""
        return self

    def prepare(self, network: nn.Module) -> None:
        """Change the network before training (for changes of features); at prediction nothing may come of it."""

    def learn(self, source: Shown, targets: Shown) -> None:
        """Called once before training.

        Args:
            source: some training patches of the source domains.
            targets: some unlabelled training patches of the target domains, where :attr:`needs_targets`.
        """

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

        made = ColourJitter.of(self.strength)
        return made if self.hue is None else replace(made, hue=self.hue)


@register("augment", "hed")
class HedAugment(Augment):
    """The amounts of haematoxylin, eosin and DAB each scaled and shifted at random, by colour deconvolution."""

    reference: ClassVar[str] = "Tellez et al. 2018, Whole-Slide Mitosis Detection, doi 10.1109/TMI.2018.2820199"

    sigma: float = Field(0.2, ge=0, le=1, description="spread of the change: 0.05 is light, 0.2 strong")
    shift: float | None = Field(None, ge=0, le=1, description="spread of what is added; default sigma")

    @cached_property
    def _change(self) -> Augmentation:
        from dataclasses import replace

        from stainda.stains import HedJitter

        made = HedJitter(sigma=self.sigma)
        if self.shift is None or self.sigma == 0:
            return made
        return replace(made, offset=made.offset * self.shift / self.sigma)


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


@register("augment", "channel_swap")
class ChannelSwapAugment(Augment):
    """Red, green and blue in a random order."""

    reference: ClassVar[str] = "Lampert et al. 2018, Strategies for Training Stain Invariant CNNs, arXiv 1810.10338"

    p: float = Field(1.0, ge=0, le=1, description="share of patches whose channels are shuffled")

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import ChannelShuffle

        return ChannelShuffle(self.p)


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


@register("augment", "randstainna")
class RandStainNAAugment(Augment):
    """Each patch's colours normalised to a random template, drawn from what the source's training patches look like."""

    reference: ClassVar[str] = "Shen et al. 2022, RandStainNA, arXiv 2206.12694"

    spread: float = Field(1.0, ge=0, le=20, description="factor on the spread of the templates; 1 is the patches' own")
    p: float = Field(0.5, ge=0, le=1, description="share of patches changed")

    _statistics: TemplateStatistics | None = PrivateAttr(None)

    def learn(self, source: Shown, targets: Shown) -> None:
        from stainda.stains import TemplateStatistics

        self._statistics = TemplateStatistics.fit(source())
        self.__dict__.pop("_change", None)

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import RandStainNA

        if self._statistics is None:
            raise ConfigError(f"augment {self.name!r} is used before it is fitted", remedy="Call learn() first")
        return RandStainNA(self._statistics, self.spread, self.p)


@register("augment", "fourier")
class FourierAugment(Augment):
    """Low frequencies take their amplitude (colours, shading) from another image; structure, their phase, stays.

    The other images are unlabelled target patches of training patients (``amplitude: targets``; the protocol has to
    show them) or other patches of the same batch (``batch``).
    """

    reference: ClassVar[str] = "Yang & Soatto 2020, FDA: Fourier Domain Adaptation, arXiv 2004.05498"

    amplitude: Literal["targets", "batch"] = Field("targets", description="where amplitudes are taken from")
    beta: float = Field(0.05, ge=0, le=0.5, description="largest frequency exchanged, as a share of the patch's size")
    share: float = Field(1.0, ge=0, le=1, description="largest share of the other's amplitude; drawn evenly from 0")
    p: float = Field(0.5, ge=0, le=1, description="share of patches changed")

    _styles: Any = PrivateAttr(None)

    @property
    def needs_targets(self) -> bool:
        return self.amplitude == "targets"

    def learn(self, source: Shown, targets: Shown) -> None:
        if self.needs_targets:
            import torch

            self._styles = (targets() * 255).round().to(torch.uint8).cpu()
        self.__dict__.pop("_change", None)

    def _draw(self, n: int, generator: Generator) -> Tensor:
        import torch

        return self._styles[torch.randint(len(self._styles), (n,), generator=generator)].float() / 255

    @cached_property
    def _change(self) -> Augmentation:
        from stainda.stains import FourierMix

        if self.needs_targets and self._styles is None:
            raise ConfigError(f"augment {self.name!r} is used before it is fitted", remedy="Call learn() first")
        return FourierMix(self.beta, self.share, self.p, self._draw if self.needs_targets else None)


@register("augment", "mixstyle")
class MixStyleAugment(Augment):
    """Mean and spread of a layer's channels mixed between the patches of a batch, while the network trains.

    Acts inside the network, on labelled and unlabelled batches alike, and is off at prediction.
    """

    reference: ClassVar[str] = "Zhou et al. 2021, Domain Generalization with MixStyle, arXiv 2104.02008"

    layers: tuple[str, ...] = Field(
        ("early",), min_length=1, description="layers whose output is mixed: early, bottleneck, decoder or module paths"
    )
    alpha: float = Field(0.1, gt=0, description="of the Beta distribution of the shares; small: one style or the other")
    p: float = Field(0.5, ge=0, le=1, description="share of batches mixed")

    def prepare(self, network: nn.Module) -> None:
        from stainda.strategies.augment.mixstyle import mix_in

        mix_in(network, self.layers, self.p, self.alpha)

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return images, labels
