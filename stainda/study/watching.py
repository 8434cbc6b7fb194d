"""Slides watched while a study runs: what a stage could not read is distinguished from what it could not do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from stainda.cohort import Cohort
from stainda.errors import StaindaError
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.training_tables import LEFT_OUT, REFITS, TRIALS
from stainda.study.bad_slides import LostSlidesError, check_unchanged, lost_in

READING = ("register", "propagate", "patches", "train", "evaluate")
"""Stages that read slides after the first one, which writes down what they are."""


class _Watched(Protocol):
    folder: RunFolder

    @property
    def cohort(self) -> Cohort: ...


@contextlib.contextmanager
def watched_slides(run: _Watched, stage: str) -> Iterator[None]:
    """Check before a stage that slides are what they were, and after it, or where it fails, that it could read them.

    Raises:
        LostSlidesError: slides are gone or cannot be read; the study can go on without them.
        SlideError: slides have other pixels now.
    """
    if stage not in READING:
        yield
        return
    check_unchanged(run.cohort, run.folder.root)
    try:
        yield
    except LostSlidesError:
        raise
    except StaindaError as error:
        _raise_lost(run, [str(error)])
        check_unchanged(run.cohort, run.folder.root)
        raise
    if stage == "train":
        _raise_lost(run, _failures(run.folder.root))
        check_unchanged(run.cohort, run.folder.root)


def _raise_lost(run: _Watched, texts: list[str]) -> None:
    if lost := lost_in(run.cohort, texts):
        raise LostSlidesError(run.cohort, lost)


def _failures(root: Path) -> list[str]:
    """Why trainings of this call failed."""
    tables = [table for table in (TRIALS, LEFT_OUT, REFITS) if table.at(root).is_file()]
    return [row["reason"] for table in tables for row in table.rows(root) if row["state"] == "failed"]
