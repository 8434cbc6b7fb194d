"""Which parameters of a network learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from stainda.config.frozen import Frozen
from stainda.errors import did_you_mean

Mode = Literal["all", "head", "last_n", "lora"]

MODES: tuple[Mode, ...] = ("all", "head", "last_n", "lora")

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "all": {}, "head": {"adapter": None}, "last_n": {"blocks": 2}, "lora": {"rank": 8, "alpha": 16.0},
}  # fmt: skip


class CacheConfig(Frozen):
    """Features of a frozen encoder, computed once: ``cache: {views: 4}``."""

    views: int = Field(
        1,
        ge=1,
        description="augmented views of each training patch that are drawn once, and of which each step takes one",
    )
    limit_gb: float = Field(20.0, gt=0, description="larger caches are refused, gigabytes")


class TrainConfig(Frozen):
    """Which parameters learn: ``train: head``, or with settings, ``train: {mode: last_n, blocks: 3}``.

    What lies behind the encoder (a decoder, the last layer) always learns.
    """

    mode: Mode = Field(
        "all",
        description="all parameters; head: what lies behind the encoder; last_n: that and the encoder's last blocks; "
        "lora: that and low-rank changes of the encoder's weights",
    )
    blocks: int | None = Field(
        None,
        ge=1,
        description="last_n: blocks at the encoder's end that learn (of a transformer, a residual network); 2",
    )
    rank: int | None = Field(None, ge=1, description="lora: of the changes; 8")
    alpha: float | None = Field(None, gt=0, description="lora: changes are multiplied by alpha over rank; 16")
    adapter: int | None = Field(
        None,
        ge=1,
        description="head: channels inside a residual adapter that learns, put between the encoder and what follows; "
        "empty: none",
    )

    @model_validator(mode="before")
    @classmethod
    def _settings_of_the_mode(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"mode": value}
        if not isinstance(value, Mapping):
            return value
        mode = value.get("mode", "all")
        if mode not in _DEFAULTS:
            hint = did_you_mean(mode, MODES) if isinstance(mode, str) else f"take one of {', '.join(MODES)}"
            raise ValueError(f"train has no mode {mode!r}; {hint}")
        own = _DEFAULTS[mode]
        wrong = [key for key, given in value.items() if key != "mode" and given is not None and key not in own]
        if known := [key for key in wrong if any(key in of for of in _DEFAULTS.values())]:
            owner = next(name for name, of in _DEFAULTS.items() if known[0] in of)
            raise ValueError(f"train.{known[0]} is a setting of mode {owner}, and the mode is {mode}")
        given = {key: inner for key, inner in value.items() if inner is not None}
        return {**own, **given}

    @property
    def everything(self) -> bool:
        return self.mode == "all"

    def __str__(self) -> str:
        settings = [f"{key} {value:g}" for key, value in self if key != "mode" and value is not None]
        return f"{self.mode} ({', '.join(settings)})" if settings else self.mode
