"""Dotted paths of searched settings, and their defaults."""

from __future__ import annotations

from typing import Any

from stainda.config import StrategyConfig, StudyConfig


def value_at(config: StudyConfig, strategy: StrategyConfig, path: str) -> object:
    """The default at a dotted path of a search range."""
    head, _, rest = path.partition(".")
    if head == "training":
        return strategy.training.get(rest, getattr(config.training, rest, None))
    if head == "geometry":
        return next(part.params[rest] for part in strategy.augment if part.name == "geometry")
    if head == "augment":
        index, _, rest = rest.partition(".")
        return strategy.augment[int(index)].params[rest]
    node: Any = getattr(strategy, head).params
    for key in rest.split("."):
        node = node[key]
    return node
