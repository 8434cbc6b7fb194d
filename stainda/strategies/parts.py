"""Parts: the small classes a strategy is composed of, by kind and name.

A part is a frozen pydantic model: its fields are the parameters a strategy file may set, with their bounds and what
they mean; its docstring holds the equation or rule and the reference. Registering the class is all that is needed for
strategy files to name it::

    @register("align", "coral")
    class Coral(Align):
        '''...'''
        weight: float = Field(1.0, ge=0, description="...")

No module of parts imports torch when it is read, so that a study can be checked without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from stainda.config import PartConfig
from stainda.config.load import validated
from stainda.errors import ConfigError, did_you_mean

Kind = Literal["view", "augment", "labels", "align", "norm", "after"]

PARTS: dict[str, dict[str, type[Part]]] = {
    "view": {}, "augment": {}, "labels": {}, "align": {}, "norm": {}, "after": {},
}  # fmt: skip


class Part(BaseModel):
    """Base of all parts.

    Attributes:
        kind: what sort of part this is, a key of :data:`PARTS`.
        name: the word strategy files use.
        tasks: kinds of task the part is defined for.
        reference: the paper the part implements; empty where it is common practice.
        mixes_densities: whether colours pass through :func:`stainda.stains.colour.mix_densities`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ClassVar[str]
    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    reference: ClassVar[str] = ""
    mixes_densities: ClassVar[bool] = False

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().split("\n")[0]

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """Parameter names and defaults."""
        return {name: field.get_default(call_default_factory=True) for name, field in cls.model_fields.items()}

    @property
    def config(self) -> PartConfig:
        """The part as a strategy file would write it, every parameter spelled out."""
        return PartConfig(name=self.name, params=self.model_dump())


P = TypeVar("P", bound=type[Part])


def register(kind: Kind, name: str) -> Callable[[P], P]:
    """Class decorator: make the part known to strategy files under ``name``."""

    def add(cls: P) -> P:
        if name in PARTS[kind]:
            raise ValueError(f"{kind} part {name!r} is registered twice")
        cls.kind, cls.name = kind, name
        PARTS[kind][name] = cls
        return cls

    return add


def build_part(kind: Kind, config: PartConfig, where: str) -> Part:
    """The part a strategy file names, its parameters checked.

    Args:
        kind: key of :data:`PARTS`.
        config: name and parameters.
        where: what the error names as its place, for example ``strategy dann``.

    Raises:
        ConfigError: no such part or parameter (the nearest is named), or a value out of bounds.
    """
    known = PARTS[kind]
    if config.name not in known:
        elsewhere = [other for other, parts in PARTS.items() if other != kind and config.name in parts]
        remedy = did_you_mean(config.name, known)
        if elsewhere:
            remedy += f" ({config.name!r} is a part of kind {elsewhere[0]!r})"
        raise ConfigError(f"unknown {kind} {config.name!r}", file=where, remedy=remedy)
    return validated(known[config.name], config.params, f"{where}, {kind} {config.name}")


def describe_parts() -> list[dict[str, str]]:
    """One row per part: kind, name, summary, parameters with their defaults, reference."""
    return [
        {
            "kind": kind,
            "name": name,
            "summary": cls.summary(),
            "parameters": ", ".join(f"{key}={value!r}" for key, value in cls.parameters().items()),
            "reference": cls.reference,
        }
        for kind, parts in PARTS.items()
        for name, cls in parts.items()
    ]


__all__ = ["PARTS", "Field", "Kind", "Part", "build_part", "describe_parts", "register"]
