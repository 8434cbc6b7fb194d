"""Who is compared with whom: strategies without target labels, with a few of them, and with all.

The question of a study is what works without target labels. A strategy that learned from some was given what the others
were not: it is shown, tested against the baseline in a family of its own, and never called the best. Labels propagated
by registration (``labels: propagated``) come from the source and are no target labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from stainda.config import StudyConfig

Group = Literal["without", "few", "all"]

FEW_FAMILY = "few target labels"
CEILING_FAMILY = "ceiling"
_BY_LABELS: dict[str, Group] = {"few_shot": "few", "all": "all"}


def ceiling_of(config: StudyConfig) -> str:
    """The ceiling of the study; empty where it is the baseline itself, which means that the study has none."""
    return "" if config.ceiling == config.baseline else config.ceiling


def group_of(config: StudyConfig, strategy: str) -> Group:
    """Which target labels a strategy learned from; the ceiling of the study counts as having all.

    The baseline is always a contender: what the others are compared with. A strategy that the study does not hold
    (records of an earlier version of it) is taken to have none.
    """
    if strategy == config.baseline:
        return "without"
    if strategy == ceiling_of(config):
        return "all"
    labels = next((candidate.labels.name for candidate in config.strategies if candidate.name == strategy), "source")
    return _BY_LABELS.get(labels, "without")


def contenders(config: StudyConfig, strategies: Iterable[str]) -> list[str]:
    """Those without target labels (the baseline is one), in their order."""
    return [name for name in strategies if group_of(config, name) == "without"]


def with_few(config: StudyConfig, strategies: Iterable[str]) -> list[str]:
    """Those with a few target labels, in their order."""
    return [name for name in strategies if group_of(config, name) == "few"]


def family_of(config: StudyConfig, strategy: str, family: str) -> str:
    """The family of tests that a comparison of ``family`` with the baseline belongs to, given the strategy's group."""
    group = group_of(config, strategy)
    if group == "all":
        return CEILING_FAMILY
    return f"{FEW_FAMILY}, {family}" if group == "few" and family else family


def few_labels(config: StudyConfig, strategy: str) -> str:
    """How many target labels a few-shot strategy learned from, as words: ``8 patches of every target domain``."""
    settings = config.strategy(strategy)
    unit = str(settings.labels.params.get("unit", "patches"))
    searched = settings.space.get("labels.k")
    if searched is not None:
        return f"a searched number of {unit} of every target domain"
    k = int(settings.labels.params.get("k", 8))
    counted = {"patches": "patch", "patients": "patient"}.get(unit, unit) if k == 1 else unit
    return f"{k} {counted} of every target domain"
