"""Errors a person can act on: what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path


class StaindaError(Exception):
    """Base of every error stainda raises on purpose.

    The command line prints it without a traceback and exits with status 2.

    Args:
        message: what was found and what was expected, one sentence without a full stop.
        file: the file at fault.
        row: the row of that file, counted as a spreadsheet does (the header is row 1).
        remedy: what the person should do, one sentence without a full stop, or a question with its mark.
    """

    def __init__(
        self, message: str, *, file: str | Path | None = None, row: int | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.file, self.row, self.remedy = message, file, row, remedy

    def __str__(self) -> str:
        place = "" if self.file is None else str(self.file)
        if self.row is not None:
            place += f"{', ' if place else ''}row {self.row}"
        text = f"{place}: {self.message}" if place else self.message
        return f"{_ended(text)} {_ended(self.remedy)}" if self.remedy else text

    def __reduce__(
        self,
    ) -> tuple[
        Callable[..., StaindaError], tuple[object, ...]
    ]:  # keyword arguments survive the way back from a worker process
        return _rebuild, (type(self), self.message, self.file, self.row, self.remedy)


def _ended(sentence: str) -> str:
    """With a full stop, where it ends with no mark of its own."""
    return sentence if sentence.endswith((".", "?", "!", "…")) else f"{sentence}."


def _rebuild(
    cls: type[StaindaError], message: str, file: str | Path | None, row: int | None, remedy: str | None
) -> StaindaError:
    return cls(message, file=file, row=row, remedy=remedy)


class ConfigError(StaindaError):
    """A study, strategy, model or task file, or an override, is wrong."""


class ManifestError(StaindaError):
    """The manifest breaks its contract; the message lists every fault at once."""


class LeakError(StaindaError):
    """Something would let information about the test patients or target labels reach training or selection."""


class SlideError(StaindaError):
    """A slide cannot be opened or read, or lacks what is needed of it (mpp, tissue)."""


class AnnotationError(StaindaError):
    """An annotation file cannot be read, or holds shapes that cannot be used."""


class RegistrationError(StaindaError):
    """Sections could not be registered; the reason says at which gate they stopped."""


class TrainingError(StaindaError):
    """A training job ended without a usable model (for example a loss that is not a number)."""


class UnexpectedError(StaindaError):
    """A job ended by something nobody foresaw (no memory, a full disk, a crash in a library): trying again may help."""


class RecordError(StaindaError):
    """A table of records breaks its contract, or a run directory lacks what is needed."""


class MissingDependencyError(StaindaError):
    """An optional package is needed for the request."""


UNREADABLE = "cannot be read there"
"""How a SlideError begins about pixels that cannot be read though the slide opens."""

DECODER = "its decoder"
"""How a SlideError begins about a slide that ended the process which decodes it."""


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Name the nearest option, then all of them: the remedy for a mistyped word."""
    options = sorted(set(options))
    near = difflib.get_close_matches(str(word), options, n=1, cutoff=0.5)
    listed = ", ".join(options) if options else "none"
    return f"Did you mean {near[0]!r}? Known: {listed}" if near else f"Known: {listed}"
