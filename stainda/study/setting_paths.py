"""Dotted paths of searched settings: their defaults, and where drawn values are put."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stainda.config import StrategyConfig, StudyConfig


def value_at(config: StudyConfig, strategy: StrategyConfig, path: str) -> object:
    """The default at a dotted path of a search range."""
    head, _, rest = path.partition(".")
    if head == "training":
        return _inside({**config.training.model_dump(), **strategy.training}, rest)
    if head == "geometry":
        return next(part.params[rest] for part in strategy.augment if part.name == "geometry")
    if head == "augment":
        index, _, rest = rest.partition(".")
        return _inside(strategy.augment[int(index)].params, rest)
    return _inside(getattr(strategy, head).params, rest)


def with_drawn(config: StudyConfig, strategy: StrategyConfig, drawn: Mapping[str, Any]) -> StrategyConfig:
    """A strategy with the values that a search drew, by dotted path.

    Of a nested setting of the loop (``training.train.blocks``) that the strategy does not have, the rest is the
    study's: a strategy's own replaces the study's as a whole.
    """
    shared = config.training.model_dump()
    nested = {path.split(".")[1] for path in drawn if path.startswith("training.") and path.count(".") > 1}
    whole = {name: shared[name] for name in sorted(nested) if name not in strategy.training}
    return strategy.model_copy(update={"training": {**whole, **strategy.training}}).with_values(dict(drawn))


def _inside(values: Mapping[str, Any], path: str) -> object:
    node: Any = values
    for key in path.split("."):
        node = node[key]
    return node
