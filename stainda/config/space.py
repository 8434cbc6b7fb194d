"""Search ranges written next to defaults in study and strategy files.

``learning_rate: {default: 1e-3, low: 1e-4, high: 1e-2, log: true}`` is the default 1e-3 and, under the dotted name
``learning_rate``, a range Optuna may search. ``{default: 3, choices: [3, 5]}`` is a categorical choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from stainda.errors import ConfigError

_ON_GRID = 1e-8
"""Steps that a value may lie off a grid by rounding; Optuna allows as much."""


class SearchRange(BaseModel):
    """The values a setting may take in a search; ``low`` and ``high`` are inclusive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] | None = None
    integer: bool = False  # of a whole default; one with fractional ends or step is not

    @model_validator(mode="before")
    @classmethod
    def _integer_of_whole_numbers(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("integer"):
            limits = [value[key] for key in ("low", "high", "step") if isinstance(value.get(key), int | float)]
            return {**value, "integer": all(float(limit).is_integer() for limit in limits)}
        return value

    @model_validator(mode="after")
    def _complete(self) -> SearchRange:
        if self.choices is None:
            if self.low is None or self.high is None:
                raise ValueError("give low and high, or choices")
            if not self.low < self.high:
                raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.step is not None and not self.step > 0:
            raise ValueError(f"step ({self.step:g}) must be above 0")
        if self.log and self.step:
            raise ValueError("log and step exclude each other")
        if self.log and not (self.low or 0) > 0:
            raise ValueError("a logarithmic range needs low > 0")
        return self

    def __str__(self) -> str:
        if self.choices is not None:
            return f"one of {', '.join(map(str, self.choices))}"
        step = f" in steps of {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{step}"

    def contains(self, value: Any) -> bool:
        """Whether a search may draw ``value``: of a range with a step, one of ``low + n * step``."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None and self.high is not None
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.integer else None)
        return step is None or abs((steps := (value - self.low) / step) - round(steps)) < _ON_GRID


def split_space(node: Any, prefix: str = "") -> tuple[Any, dict[str, SearchRange]]:
    """Separate a parsed YAML node into plain defaults and search ranges by dotted path.

    Raises:
        ConfigError: a range is incomplete or does not contain its own default.
    """
    if not isinstance(node, Mapping):
        return node, {}
    if "default" in node and ({"low", "high", "choices"} & set(node)):
        default = node["default"]
        fields = {key: value for key, value in node.items() if key != "default"}
        if wrong := [key for key in fields if not isinstance(key, str)]:
            raise ConfigError(f"search range of {prefix!r} is wrong: {wrong[0]!r} is no setting of it")
        integer = isinstance(default, int) and not isinstance(default, bool) and "choices" not in fields
        try:
            result = SearchRange(integer=integer, **fields)
        except ValueError as error:
            raise ConfigError(f"search range of {prefix!r} is wrong: {_first_line(error)}") from error
        if not result.contains(default):
            raise ConfigError(f"default {default!r} of {prefix!r} lies outside its own search range, {result}")
        return default, {prefix: result}
    values, space = {}, {}
    for key, child in node.items():
        values[key], inner = split_space(child, f"{prefix}.{key}" if prefix else str(key))
        space.update(inner)
    return values, space


def set_path(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of nested ``values`` with the entry at the dotted ``path`` replaced (and made, where it is missing)."""
    head, _, rest = path.partition(".")
    out = dict(values)
    if rest:
        inner = out.get(head)
        out[head] = set_path(inner if isinstance(inner, Mapping) else {}, rest, value)
    else:
        out[head] = value
    return out


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line.removeprefix("Value error, ") for line in lines if line.startswith("Value error")), lines[-1])
