"""stainda: will a detector trained in one stain at one centre work in the others, and what gets it there?

``import stainda as st`` imports nothing else; the first use of a name does. docs/howto/python.md shows all of it.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stainda.version import VERSION

if TYPE_CHECKING:
    from stainda.api.microenvironment import Microenvironment, microenvironment
    from stainda.api.registration import Propagation, Registration
    from stainda.api.run import Run
    from stainda.api.verbs import load_run, phantom, predict, propagate, read_manifest, read_shapes, register, run
    from stainda.cohort import Cohort
    from stainda.errors import StaindaError
    from stainda.registration.transforms import Transform

__version__ = VERSION

_HOMES = {
    "read_manifest": "api.verbs", "phantom": "api.verbs", "read_shapes": "api.verbs", "register": "api.verbs",
    "propagate": "api.verbs", "run": "api.verbs", "load_run": "api.verbs", "predict": "api.verbs",
    "Cohort": "cohort", "Registration": "api.registration", "Propagation": "api.registration", "Run": "api.run",
    "Transform": "registration.transforms", "StaindaError": "errors",
    "microenvironment": "api.microenvironment", "Microenvironment": "api.microenvironment",
}  # fmt: skip

__all__ = [
    "read_manifest", "phantom", "read_shapes", "register", "propagate", "run", "load_run", "predict",
    "microenvironment", "Cohort", "Registration", "Propagation", "Run", "Microenvironment", "Transform",
    "StaindaError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _FrontDoor(ModuleType):
    """A module whose names stay what the table says: Python would put the room ``phantom`` over the verb, as soon as
    anything imports that room."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOMES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
