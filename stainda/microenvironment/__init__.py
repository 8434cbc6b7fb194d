"""Cells in relation to structures, across stains: counts, densities and spatial statistics with their uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.microenvironment.run import measure_microenvironment

__all__ = ["measure_microenvironment"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stainda.microenvironment.run import measure_microenvironment

    return measure_microenvironment
