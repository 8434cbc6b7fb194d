"""Registration of the sections of a block into one frame, its assessment, and propagation of annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.registration.propagation import propagate
    from stainda.registration.register import register_cohort
    from stainda.registration.results import QUALITY_COLUMNS, BlockResult, load_block
    from stainda.registration.reuse import registration_standing
    from stainda.registration.transforms import Transform, map_points, map_shapes

_HOMES = {
    "propagate": "propagation",
    "register_cohort": "register",
    "registration_standing": "reuse",
    "QUALITY_COLUMNS": "results",
    "BlockResult": "results",
    "load_block": "results",
    "Transform": "transforms",
    "map_points": "transforms",
    "map_shapes": "transforms",
}

__all__ = [
    "register_cohort",
    "registration_standing",
    "QUALITY_COLUMNS",
    "BlockResult",
    "load_block",
    "Transform",
    "map_points",
    "map_shapes",
    "propagate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
