"""Several align parts in one training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from pydantic import field_validator

from stainda.config import PartConfig
from stainda.errors import ConfigError
from stainda.strategies.align.base import Align, DomainAnswers, Grouping, Manner, Site, Step
from stainda.strategies.parts import Field, build_part, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "together")
class CombinedAlign(Align):
    """The loss terms of several align parts, added up: ``parts: {dann: {weight: 0.1}, serial_consistency: {}}``.

    The parts have to agree: one layer, one grouping, and of those that see target patches one manner of augmenting
    them. At most one may replace the task loss, and at most one the weights that are kept. ``share`` compares the
    gradient of one part with the task's, so none may have it here.
    """

    parts: dict[str, dict[str, Any]] = Field(description="align parts by name, each with its parameters", min_length=2)

    @field_validator("parts")
    @classmethod
    def _known(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if "together" in value or "none" in value:
            raise ValueError("name parts that align something")
        try:
            parts = [
                cast(Align, build_part("align", PartConfig(name=name, params=params), name))
                for name, params in value.items()
            ]
        except ConfigError as error:
            raise ValueError(f"{error.message} ({error.remedy})" if error.remedy else error.message) from error
        for what in ("tapped", "also_tapped", "grouping"):
            values = {name: getattr(part, what) for name, part in zip(value, parts, strict=True) if getattr(part, what)}
            _refuse_differences(what, values)
        by_name = dict(zip(value, parts, strict=True))
        manners = {name: part.target_manner for name, part in by_name.items() if part.needs_targets}
        _refuse_differences("how colours of the target change (colours)", manners)
        for what, several in (
            ("replace the task loss", [name for name, part in by_name.items() if part.replaces_task]),
            ("keep weights of their own", [name for name, part in by_name.items() if part.averages]),
        ):
            if len(several) > 1:
                raise ValueError(f"{' and '.join(several)} both {what}: leave one of them out")
        if shares := [name for name, part in by_name.items() if getattr(part, "share", None) is not None]:
            raise ValueError(f"share of {shares[0]} has no meaning among several parts: give its weight")
        return value

    @cached_property
    def members(self) -> dict[str, Align]:
        """The parts by name."""
        return {
            name: cast(Align, build_part("align", PartConfig(name=name, params=params), f"together, {name}"))
            for name, params in self.parts.items()
        }

    @property
    def tasks(self) -> tuple[str, ...]:  # type: ignore[override]
        kinds = ("segmentation", "classification")
        return tuple(kind for kind in kinds if all(kind in part.tasks for part in self.members.values()))

    @property
    def needs_targets(self) -> bool:  # type: ignore[override]
        return any(part.needs_targets for part in self.members.values())

    @property
    def target_logits(self) -> bool:  # type: ignore[override]
        return any(part.target_logits for part in self.members.values())

    @property
    def needs_pairs(self) -> bool:  # type: ignore[override]
        return any(part.needs_pairs for part in self.members.values())

    @property
    def needs_pixels(self) -> bool:  # type: ignore[override]
        return any(part.needs_pixels for part in self.members.values())

    @property
    def needs_votes(self) -> bool:  # type: ignore[override]
        return any(part.needs_votes for part in self.members.values())

    @property
    def moves_weights(self) -> bool:  # type: ignore[override]
        return any(part.moves_weights for part in self.members.values())

    @property
    def replaces_task(self) -> bool:  # type: ignore[override]
        return any(part.replaces_task for part in self.members.values())

    @property
    def compares(self) -> bool:  # type: ignore[override]
        return any(part.compares for part in self.members.values())

    @property
    def tapped(self) -> str | None:
        return next((part.tapped for part in self.members.values() if part.tapped), None)

    @property
    def also_tapped(self) -> tuple[str, ...]:
        return next((part.also_tapped for part in self.members.values() if part.also_tapped), ())

    @property
    def grouping(self) -> Grouping | None:
        return next((part.grouping for part in self.members.values() if part.grouping), None)

    @property
    def target_manner(self) -> Manner:
        return "strong" if any(part.target_manner == "strong" for part in self.members.values()) else "same"

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from torch import nn

        return {name: nn.ModuleDict(part.modules(site)) for name, part in self.members.items()}

    def rates(self) -> Mapping[str, float]:
        return {f"{name}.{key}": rate for name, part in self.members.items() for key, rate in part.rates().items()}

    def losses(self, step: Step) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        for name, part in self.members.items():
            for term, value in part.losses(self._of(step, name)).items():
                key = term if term == "task" else f"{name}_{term}"
                assert key not in result, f"{name} replaces the task loss and does not say so"
                result[key] = value
        return result

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        return {
            f"{name}_{key}": verdict
            for name, part in self.members.items()
            for key, verdict in part.verdicts(self._of(step, name)).items()
        }

    def statements(self, modules: nn.ModuleDict) -> list[str]:
        return [
            line
            for name, part in self.members.items()
            for line in part.statements(cast("nn.ModuleDict", modules[name]))
        ]

    def after_step(self, step: Step) -> None:
        for name, part in self.members.items():
            part.after_step(self._of(step, name))

    def after_epoch(self, modules: nn.ModuleDict, network: nn.Module, score: float) -> None:
        for name, part in self.members.items():
            part.after_epoch(cast("nn.ModuleDict", modules[name]), network, score)

    @property
    def averages(self) -> bool:
        return any(part.averages for part in self.members.values())

    def epoch_weights(self, modules: nn.ModuleDict) -> Mapping[str, Tensor] | None:
        result = [part.epoch_weights(cast("nn.ModuleDict", modules[name])) for name, part in self.members.items()]
        return next((weights for weights in result if weights is not None), None)

    def final_weights(self, modules: nn.ModuleDict) -> Mapping[str, Tensor] | None:
        result = [part.final_weights(cast("nn.ModuleDict", modules[name])) for name, part in self.members.items()]
        return next((weights for weights in result if weights is not None), None)

    @staticmethod
    def _of(step: Step, name: str) -> Step:
        from dataclasses import replace

        return replace(step, modules=cast("nn.ModuleDict", step.modules[name]))


def _refuse_differences(what: str, values: Mapping[str, object]) -> None:
    if len(set(values.values())) > 1:
        raise ValueError(
            f"the parts differ in {what}: {', '.join(f'{name} {value}' for name, value in values.items())}"
        )
