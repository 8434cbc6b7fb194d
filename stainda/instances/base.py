"""What every head offers: targets from numbered objects, and objects from maps again; of dense heads, a loss."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stainda.arrays import Array
from stainda.config import PartConfig
from stainda.config.load import validated
from stainda.errors import ConfigError, did_you_mean
from stainda.instances.depths import basins, relative_depths

if TYPE_CHECKING:
    from torch import Tensor

HEADS: dict[str, type[InstanceHead]] = {}
"""Heads by the word that ``task.instances`` names; :func:`build_head` fills it from the modules of this folder."""


class InstanceHead(BaseModel):
    """Maps next to the class scores of a segmentation network, by which objects that touch are separated.

    Where objects lie at all is what the classes say; a head divides connected foreground. Its fields are the parameters
    that ``task.instances`` may set.

    Attributes:
        name: the word a task uses. reference: the paper.
        turns: the maps are of directions, so that those of a turned patch are not the turned maps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    reference: ClassVar[str]
    turns: ClassVar[bool] = False

    @property
    def channels(self) -> int:
        """Maps that the network gives for it."""
        raise NotImplementedError

    def targets(self, objects: Array) -> Array:
        """What the maps are to be.

        Args:
            objects: whole numbers ``(h, w)``, 0 background, a number per object; objects of any numbers may touch.

        Returns:
            float32 ``(channels, h, w)``. What lies outside of the patch is not known, and is no border of an object.
        """
        raise NotImplementedError

    def separate(self, inside: Array, maps: Array) -> Array:
        """Divide one connected piece of foreground into objects.

        Args:
            inside: bool ``(h, w)``, connected over edges.
            maps: float32 ``(channels, h, w)``, in the units of the targets.

        Returns:
            int32 ``(h, w)``: 1…n in the piece, every pixel in one object, each connected over edges; 0 elsewhere.
        """
        raise NotImplementedError


class DenseHead(InstanceHead):
    """A head whose maps are further channels of a segmentation network's last layer."""

    def loss(self, maps: Tensor, targets: Tensor, inside: Tensor, known: Tensor) -> Tensor:
        """A scalar.

        Args:
            maps: of the network, as they come, ``[N, channels, H, W]``. targets: the same shape.
            inside: bool ``[N, 1, H, W]``, in an object. known: bool ``[N, 1, H, W]``, what is not ignored.
        """
        raise NotImplementedError

    def activate(self, maps: Tensor) -> Tensor:
        """Maps of the network in the units of the targets: those that are blended over tiles and separated."""
        raise NotImplementedError


class DepthHead(InstanceHead):
    """A head with one map: how deep a pixel lies in its object, from 0 to 1. Its basins, upside down, are objects."""

    h: float = Field(0.15, gt=0, lt=1, description="least depth of a saddle between two objects, as a share of theirs")

    @property
    def channels(self) -> int:
        return 1

    def targets(self, objects: Array) -> Array:
        return relative_depths(number(objects))[None]

    def separate(self, inside: Array, maps: Array) -> Array:
        return basins(inside, maps[0], self.h)


H = TypeVar("H", bound=type[InstanceHead])


def register(name: str) -> Callable[[H], H]:
    """Class decorator: make a head known to tasks under ``name``."""

    def add(cls: H) -> H:
        if name in HEADS:
            raise ValueError(f"head {name!r} is registered twice")
        cls.name = name
        HEADS[name] = cls
        return cls

    return add


def known_heads() -> dict[str, type[InstanceHead]]:
    """All heads of this folder by name."""
    room = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{room}.{module.name}")
    return dict(sorted(HEADS.items()))


def build_head(config: PartConfig, place: str = "task.instances") -> InstanceHead:
    """The head that a task names.

    Args:
        place: where it is named, for messages.

    Raises:
        ConfigError: no such head or parameter (the nearest is named), or a value out of bounds.
    """
    known = known_heads()
    if config.name not in known:
        raise ConfigError(f"unknown head {config.name!r}", file=place, remedy=did_you_mean(config.name, known))
    return validated(known[config.name], config.params, f"{place} {config.name}")


def describe_heads() -> list[dict[str, str]]:
    """One row per head: name, summary, parameters with their defaults, reference."""
    return [
        {
            "name": name,
            "summary": (cls.__doc__ or "").strip().split("\n")[0],
            "parameters": ", ".join(f"{key}={field.get_default()!r}" for key, field in cls.model_fields.items()),
            "reference": cls.reference,
        }
        for name, cls in known_heads().items()
    ]


def number(objects: Array) -> Array:
    """Objects with the numbers 1…n, whatever theirs were; int32."""
    values, index = np.unique(objects, return_inverse=True)
    return (index.reshape(objects.shape) + (0 if values.size and values[0] == 0 else 1)).astype(np.int32)
