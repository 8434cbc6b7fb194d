"""A strategy: parts built from its file, checked alone and against the study it is to run in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from stainda.cohort import Cohort, Roles
from stainda.config import StrategyConfig, StudyConfig
from stainda.errors import ConfigError
from stainda.instances import build_head, task_for
from stainda.strategies.after.base import After
from stainda.strategies.align.base import Align
from stainda.strategies.augment.base import Augment
from stainda.strategies.labels.base import Labels
from stainda.strategies.norm.base import Norm
from stainda.strategies.parts import PARTS, Part, build_part
from stainda.strategies.view.base import View

TASKS = ("segmentation", "classification")


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
    def tasks(self) -> tuple[str, ...]:
        """Kinds of task that every part is defined for."""
        parts = (self.view, *self.augment, self.labels, self.align, self.norm, self.after)
        return tuple(kind for kind in TASKS if all(kind in part.tasks for part in parts))

    @property
    def mixes_densities(self) -> bool:
        """Whether patches pass through :func:`stainda.stains.colour.mix_densities` in training."""
        own = any(part.mixes_densities for part in (self.view, *self.augment))
        return own or self.align.target_manner == "strong"  # strong changes of colour, HED among them

    @property
    def may_see_target_truth(self) -> bool:
        """Whether it learns from the targets' own annotations: from all (the ceiling) or from a few."""
        return self.labels.uses_target_truth


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
            are requested where nothing is registered; a search range names no parameter.
    """
    where = f"strategy {strategy.name}"
    parts = (strategy.view, *strategy.augment, strategy.labels, strategy.align, strategy.norm, strategy.after)
    for part in parts:
        if study.task.network not in part.tasks:
            raise ConfigError(
                f"{part.kind} {part.name!r} is not defined for {study.task.kind}",
                file=where,
                remedy=f"It is for {' and '.join(part.tasks)}. For {study.task.kind} there are {part.kind} "
                + ", ".join(
                    sorted(name for name, piece in PARTS[part.kind].items() if _fits(piece, study.task.network))
                ),
            )
    if study.protocol.visible == "nothing":
        if strategy.align.needs_targets:
            raise ConfigError(
                f"align {strategy.align.name!r} needs unlabelled target images, which the protocol hides "
                "(visible: nothing)",
                file=where,
                remedy="Set protocol.visible to targets, or take a strategy that aligns nothing "
                "(source_only, colour_jitter, greyscale, ...)",
            )
        if hidden := [part.name for part in strategy.augment if part.needs_targets]:
            raise ConfigError(
                f"augment {hidden[0]!r} takes amplitudes from target images, which the protocol hides "
                "(visible: nothing)",
                file=where, remedy="Set amplitude: batch, or protocol.visible to targets",
            )  # fmt: skip
        if strategy.labels.few is not None:
            raise ConfigError(
                "few-shot labels lie on target images, which the protocol hides (visible: nothing)",
                file=where, remedy="Set protocol.visible to targets, or take labels: source",
            )  # fmt: skip
        if strategy.labels.name == "propagated":
            raise ConfigError(
                "propagated labels lie on target images, which the protocol hides (visible: nothing)",
                file=where, remedy="Set protocol.visible to targets, or take labels: source",
            )  # fmt: skip
    _check_details(strategy, study, where)
    _check_groups(strategy, study, where)
    for path in strategy.config.space:
        _check_range(strategy.config, path, where)


def _check_details(strategy: Strategy, study: StudyConfig, where: str) -> None:
    """What tasks of instances and points do not take, though the network is that of a segmentation."""
    task = task_for(study, strategy.config)
    head = build_head(task.instances) if task.kind == "instances" else None
    if head is not None and head.turns and strategy.after.turns:
        raise ConfigError(
            f"after {strategy.after.name!r} averages turned tiles, and the maps of {head.name!r} are of directions",
            file=where, remedy="Set task.instances to contours or distance, or take after: none",
        )  # fmt: skip
    if strategy.align.needs_votes and strategy.labels.crowd is None:
        raise ConfigError(
            f"align {strategy.align.name!r} learns from each annotator's answers, and labels {strategy.labels.name!r} "
            "are one set",
            file=where, remedy="Take labels: annotators",
        )  # fmt: skip
    if task.kind in ("points", "instances") and strategy.labels.crowd is not None:
        raise ConfigError(
            f"labels {strategy.labels.name!r} fuse classes pixel by pixel, and the task is of {task.kind}",
            file=where, remedy="Take labels: source, for which 'fusion' of the study fuses the shapes",
        )  # fmt: skip
    if task.kind == "points" and strategy.labels.of_objects is not None:
        raise ConfigError(
            "a share of the annotated objects is drawn by their outlines, and the task is of points",
            file=where, remedy="Take labels: source",
        )  # fmt: skip


def _fits(part: type[Part], kind: str) -> bool:
    """Whether a part is defined for a kind of task; one made of others is where they are."""
    return not isinstance(part.tasks, tuple) or kind in part.tasks


def _check_groups(strategy: Strategy, study: StudyConfig, where: str) -> None:
    if strategy.align.grouping is not None and strategy.norm.by_domain:
        raise ConfigError(
            f"align {strategy.align.name!r} compares groups within one batch, and norm {strategy.norm.name!r} makes "
            "every batch of a single domain",
            file=where, remedy="Take norm: shared, reestimated or group",
        )  # fmt: skip


def check_cohort(strategy: Strategy, cohort: Cohort, roles: Roles) -> None:
    """Refuse a strategy for which the cohort has too few groups or no neighbouring sections, before any work.

    Raises:
        ConfigError: the labelled training sections make one group by what the strategy compares; or no block has two
            sections that training may see.
    """
    where = f"strategy {strategy.name}"
    grouping = strategy.align.grouping
    training = cohort.where(domains=roles.sources, splits=["train"])
    if grouping is not None:
        counts = {
            "domain": len({cohort.domain(section) for section in training}),
            "patient": len({section.patient for section in training}),
            "slide": len({section.slide for section in training}),
        }
        if counts[grouping] < 2:
            fits = [f"{kind} ({count})" for kind, count in counts.items() if count > 1]
            raise ConfigError(
                f"align {strategy.align.name!r} compares groups of training sections by {grouping}, and the source has "
                f"{counts[grouping]}",
                file=where,
                remedy=f"Set align.groups to what has several: {', '.join(fits)}"
                if fits
                else "Name a second source domain, or leave this strategy out: nothing in the source can be compared",
            )
    if strategy.align.needs_pairs:
        shown = (*roles.sources, *(roles.targets if roles.visible == "targets" else ()))
        seen = cohort.where(domains=shown, splits=["train"])
        if all(len(sections) < 2 for sections in seen.blocks().values()):
            raise ConfigError(
                f"align {strategy.align.name!r} needs two registered sections of one block that training may see, and "
                "no block of a training patient has them",
                file=where,
                remedy="Set protocol.visible to targets, or give sections of one block the same block in the manifest",
            )


def _check_range(config: StrategyConfig, path: str, where: str) -> None:
    """A search range is for something a part takes: setting both its ends must give a strategy that builds."""
    result = config.space[path]
    for value in result.choices if result.choices is not None else (result.low, result.high):
        if path.startswith("training."):
            continue
        changed = config.with_values({path: int(value) if result.integer and value is not None else value})
        try:
            build(changed)
        except ConfigError as error:
            raise ConfigError(f"search range of {path!r}: {error.message}", file=where, remedy=error.remedy) from error
