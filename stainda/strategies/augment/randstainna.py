"""RandStainNA: colours normalised to random templates."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pydantic import PrivateAttr

from stainda.errors import ConfigError
from stainda.strategies.augment.base import Augment, Shown
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from stainda.stains import Augmentation, TemplateStatistics


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
