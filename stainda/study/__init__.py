"""The run directory, its jobs, the search and the stages: what is run, where, and how it goes on after a stop."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.run_directory.folder import STAGES as STAGES
    from stainda.run_directory.folder import RunFolder as RunFolder
    from stainda.run_directory.folder import read_study as read_study
    from stainda.study.dispatch import run_study as run_study
    from stainda.study.doctor import Diagnosis as Diagnosis
    from stainda.study.doctor import examine as examine
    from stainda.study.listing import Entry as Entry
    from stainda.study.listing import catalogue as catalogue
    from stainda.study.run import StudyRun as StudyRun

_HOME = {
    "Entry": "study.listing", "catalogue": "study.listing", "Diagnosis": "study.doctor", "examine": "study.doctor",
    "STAGES": "run_directory.folder", "RunFolder": "run_directory.folder", "read_study": "run_directory.folder",
    "StudyRun": "study.run", "run_study": "study.dispatch",
}  # fmt: skip

__all__ = [
    "Entry",
    "Diagnosis",
    "RunFolder",
    "STAGES",
    "StudyRun",
    "catalogue",
    "examine",
    "read_study",
    "run_study",
]


def __getattr__(name: str) -> Any:  # a module is read when something of it is first requested: start-up stays quick
    if name in _HOME:
        return getattr(importlib.import_module(f"stainda.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
