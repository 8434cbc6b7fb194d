"""Tables of a run directory that a review reads."""

from __future__ import annotations

import csv
from pathlib import Path

from stainda.errors import StaindaError

RUN_FIRST = "Run 'stainda propagate' or 'stainda run' first"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, all of text.

    Raises:
        StaindaError: it is not there, or cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        raise StaindaError("there is no such table in this run directory", file=path, remedy=RUN_FIRST) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StaindaError(f"cannot be read ({error})", file=path, remedy=RUN_FIRST) from error
