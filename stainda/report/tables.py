"""Tables of the page, each with a CSV next to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.crossed import INTERVAL, RANGE

MANY = 4
"""A note of so many rows stands once, below the table."""


@dataclass(frozen=True)
class Cell:
    """What one cell shows. ``sort`` is what it is sorted by; ``small`` stands under the text, less prominent.

    ``link`` is an address relative to the page.
    """

    text: str
    small: str = ""
    sort: float | str | None = None
    number: bool = False
    mark: str = ""
    link: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table of the page. ``frame`` is the same with full precision, written as CSV under ``name``."""

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    frame: pd.DataFrame
    note: str = ""
    row_header: bool = True
    files: Sequence[str] = ("csv",)

    @property
    def long(self) -> bool:
        return len(self.rows) > 12

    @property
    def filled(self) -> list[int]:
        """Indices of the columns that the page shows: those with content in any row; the files have all."""
        held = [i for i in range(len(self.columns)) if any(row[i].text or row[i].small for row in self.rows)]
        return held or list(range(len(self.columns)))

    @property
    def n_rows(self) -> int:
        """Rows of the file, of which the page may show fewer."""
        return len(self.frame)


def text(value: object, reason: bool = False) -> Cell:
    shown = "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)
    return Cell(shown, sort=shown.lower(), mark="reason" if reason and len(shown) > 20 else "")


def number(value: Any, digits: int = 2, unit: str = "") -> Cell:
    """A number, right-aligned; an empty cell where there is none."""
    shown = decimal(value, digits)
    if not shown:
        return Cell("", number=True)
    return Cell(f"{shown}{unit}", sort=float(value), number=True)


def decimal(value: Any, digits: int = 2) -> str:
    """A number as text, without a minus sign before zero; empty where there is none."""
    if value is None or value == "" or not np.isfinite(float(value)):
        return ""
    shown = f"{float(value):.{digits}f}"
    return shown.removeprefix("-") if float(shown) == 0 else shown.replace("-", "−")


def signed(value: object, digits: int = 2) -> str:
    shown = decimal(value, digits)
    return shown if not shown or shown.startswith("−") or float(shown) == 0 else f"+{shown}"


def span(low: object, high: object, digits: int = 2) -> str:
    """``low to high``; empty where there is no interval."""
    ends = decimal(low, digits), decimal(high, digits)
    return f"{ends[0]} to {ends[1]}" if all(ends) else ""


def ends(row: Any, digits: int = 2, scale: float = 1.0) -> str:
    """``low to high`` of a row of results, said to be a range where it is the range of the patients."""
    shown = span(scale * row["low"], scale * row["high"], digits)
    return f"range {shown}" if shown and row["interval_kind"] == RANGE else shown


def spread_words(kinds: Iterable[str], level: str) -> str:
    """What the ends next to some means are, by their ``interval_kind``."""
    texts = {
        INTERVAL: f"{level} intervals over patients and trainings",
        RANGE: f"ranges of the patients, no intervals (fewer than {FEW_PATIENTS} patients, or one training)",
    }
    result = set(kinds)
    return "; ".join(text for kind, text in texts.items() if kind in result) or "no intervals"


def p_value(value: Any) -> str:
    if value is None or not np.isfinite(float(value)):
        return ""
    return "< 0.001" if value < 0.001 else f"{float(value):.3f}" if value < 0.1 else f"{float(value):.2f}"


def footnoted(notes: Sequence[str]) -> tuple[list[str], str]:
    """Notes that stand in many rows as letters, and what the letters mean, to be said once below the table.

    Returns:
        The notes of the rows, those of :data:`MANY` rows and more as ``(a)``, ``(b)``…; the sentence, or nothing.
    """
    counts = Counter(note for note in notes if note)
    many = [note for note, number in counts.items() if number >= MANY]
    letters = {note: f"({chr(97 + index)})" for index, note in enumerate(many[:26])}
    notes_text = "; ".join(f"{letter} {note}" for note, letter in letters.items())
    return [letters.get(note, note) for note in notes], f"{notes_text}." if notes_text else ""


def duration(seconds: Any) -> str:
    """Seconds as a person says them."""
    if seconds is None or seconds == "" or not np.isfinite(float(seconds)):
        return ""
    value = float(seconds)
    if value < 100:
        return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"
    if value < 6000:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


def plain_table(
    name: str,
    caption: str,
    frame: pd.DataFrame,
    titles: dict[str, str],
    digits: dict[str, int] | None = None,
    note: str = "",
) -> PageTable:
    """A table of the columns named in ``titles``, in that order; ``digits`` holds decimals of the numeric ones."""
    digits = digits or {}
    shown = [column for column in titles if column in frame.columns]
    rows = [
        [
            number(row[column], digits[column]) if column in digits else text(row[column], column == "reason")
            for column in shown
        ]
        for row in frame.to_dict("records")
    ]
    return PageTable(name, caption, [titles[column] for column in shown], rows, frame, note)
