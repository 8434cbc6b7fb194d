"""The name of a registered class and the arguments of its constructor."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from stainda.config.frozen import Frozen


class PartConfig(Frozen):
    """One part of a strategy, or a head of a task: a registered class by name, and the arguments of its constructor."""

    name: str = Field(description="as stainda list parts has it")
    params: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the part; they may stand next to the name"
    )

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "params" not in value:
            return {"name": value.get("name"), "params": {k: v for k, v in value.items() if k != "name"}}
        return value
