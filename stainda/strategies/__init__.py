"""Strategies: how a network is trained across domains, as parts that combine.

Building and checking a strategy does not import torch; the first batch does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# each of these registers its parts
from stainda.strategies.after import base as _after  # noqa: F401
from stainda.strategies.align import (  # noqa: F401
    adversarial,
    afn,
    atdoc,
    base,
    combined,
    confusion,
    discrepancy,
    domain_separation,
    groups,
    gvb,
    heads,
    output_space,
    predictions,
    serial_consistency,
    swad,
    teachers,
    vat,
)
from stainda.strategies.augment import base as _augment  # noqa: F401
from stainda.strategies.labels import base as _labels  # noqa: F401
from stainda.strategies.norm import base as _norm  # noqa: F401
from stainda.strategies.parts import PARTS, Part, describe_parts, register
from stainda.strategies.strategy import Strategy, build, check, check_cohort
from stainda.strategies.view import base as _view  # noqa: F401
from stainda.strategies.view import normalisers  # noqa: F401

if TYPE_CHECKING:
    from stainda.strategies.detector import Detector

__all__ = [
    "PARTS",
    "Part",
    "register",
    "describe_parts",
    "Strategy",
    "build",
    "check",
    "check_cohort",
    "Detector",
]


def __getattr__(name: str) -> Any:
    if name == "Detector":
        from stainda.strategies.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
