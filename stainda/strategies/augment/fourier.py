"""Fourier domain adaptation: amplitudes of low frequencies from another image."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PrivateAttr

from stainda.errors import ConfigError
from stainda.strategies.augment.base import Augment, Shown
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from stainda.stains import Augmentation


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
