"""Strategies: how a network is trained across domains, as parts that combine.

Building and checking a strategy does not import torch; the first batch does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stainda.strategies import after, align, augment, labels, norm, view  # noqa: F401  (they register their parts)
from stainda.strategies.parts import PARTS, Part, describe_parts, register
from stainda.strategies.strategy import Strategy, build, check, check_cohort

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
