"""A strategy: parts built from its file, checked alone and against the study it is to run in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from stainda.config import StrategyConfig, StudyConfig, available, load_strategy
from stainda.errors import ConfigError
from stainda.strategies.after import After
from stainda.strategies.align import Align
from stainda.strategies.augments import Augment
from stainda.strategies.labels import Labels
from stainda.strategies.norms import Norm
from stainda.strategies.parts import build_part
from stainda.strategies.views import View


@dataclass(frozen=True)
class Strategy:
    """How a network is trained across domains, composed of parts."""

    config: StrategyConfig
    view: View
    augment: tuple[Augment, ...]
    labels: Labels
    align: Align
    norm: Norm
    after: After

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def may_see_target_truth(self) -> bool:
        """Whether this is the ceiling, which learns from the targets' own annotations."""
        return self.labels.uses_target_truth


@dataclass(frozen=True)
class StrategySummary:
    """One row of ``stainda list strategies``."""

    name: str
    title: str
    description: str
    reference: str
    parts: str


def build(config: StrategyConfig) -> Strategy:
    """The strategy with its parts made.

    Raises:
        ConfigError: unknown part or parameter (the nearest is named), or a value out of bounds.
    """
    where = f"strategy {config.name}"
    return Strategy(
        config=config,
        view=cast(View, build_part("view", config.view, where)),
        augment=tuple(cast(Augment, build_part("augment", part, where)) for part in config.augment),
        labels=cast(Labels, build_part("labels", config.labels, where)),
        align=cast(Align, build_part("align", config.align, where)),
        norm=cast(Norm, build_part("norm", config.norm, where)),
        after=cast(After, build_part("after", config.after, where)),
    )


def check(strategy: Strategy, study: StudyConfig) -> None:
    """Refuse a strategy that cannot mean anything in this study, before it starts.

    Raises:
        ConfigError: the task is not one a part is defined for; targets are needed and not visible; propagated labels
            are asked for where nothing is registered; a search range names no parameter.
    """
    where = f"strategy {strategy.name}"
    parts = (strategy.view, *strategy.augment, strategy.labels, strategy.align, strategy.norm, strategy.after)
    for part in parts:
        if study.task.kind not in part.tasks:
            raise ConfigError(
                f"{part.kind} {part.name!r} is not defined for {study.task.kind}",
                file=where, remedy=f"It is for {' and '.join(part.tasks)}",
            )  # fmt: skip
    if study.protocol.visible == "nothing":
        if strategy.align.needs_targets:
            raise ConfigError(
                f"align {strategy.align.name!r} needs unlabelled target images, which the protocol hides "
                "(visible: nothing)",
                file=where,
                remedy="Set protocol.visible to targets, or take a strategy that aligns nothing "
                "(source_only, colour_jitter, greyscale, ...)",
            )
        if strategy.labels.name == "propagated":
            raise ConfigError(
                "propagated labels lie on target images, which the protocol hides (visible: nothing)",
                file=where, remedy="Set protocol.visible to targets, or take labels: source",
            )  # fmt: skip
    for path in strategy.config.space:
        _check_range(strategy.config, path, where)


def _check_range(config: StrategyConfig, path: str, where: str) -> None:
    """A search range is for something a part takes: setting both its ends must give a strategy that builds."""
    found = config.space[path]
    for value in found.choices if found.choices is not None else (found.low, found.high):
        if path.startswith("training."):
            continue
        changed = config.with_values({path: int(value) if found.integer and value is not None else value})
        try:
            build(changed)
        except ConfigError as error:
            raise ConfigError(f"search range of {path!r}: {error.message}", file=where, remedy=error.remedy) from error


def list_strategies(near: Path | None = None) -> list[StrategySummary]:
    """Every strategy that can be named, with what it is made of; ``near`` is a study's folder."""
    rows = []
    for name in available("strategies", near):
        config = load_strategy(name, near)
        parts = [config.view.name, *(part.name for part in config.augment)]
        text = f"view {parts[0]} · augment {' + '.join(parts[1:]) or 'none'} · labels {config.labels.name}"
        text += f" · align {config.align.name} · norm {config.norm.name} · after {config.after.name}"
        rows.append(StrategySummary(name, config.label, " ".join(config.description.split()), config.reference, text))
    return rows
