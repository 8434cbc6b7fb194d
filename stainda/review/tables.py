"""Tables of a run directory that a review reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stainda.errors import RecordError
from stainda.run_directory.text_rows import read_text_rows

RUN_FIRST = "Run 'stainda propagate' or 'stainda run' first"
AGAIN = "It may have been changed by hand: run 'stainda propagate' or 'stainda run' again, which write it anew"


def read_table(path: Path, needed: Iterable[str] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a table, all of text.

    Raises:
        RecordError: it is not there, cannot be read, lacks a needed column, or has a row of another length; with the
            row.
    """
    try:
        return read_text_rows(path, needed, AGAIN)
    except FileNotFoundError:
        raise RecordError("there is no such table in this run directory", file=path, remedy=RUN_FIRST) from None


def read_rows(path: Path, needed: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of :func:`read_table`."""
    return read_table(path, needed)[1]
