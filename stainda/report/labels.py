"""Names of strategies and domains in figures: broken into lines, so that long ones do not cover each other."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

LETTER_MM = 1.4
"""About the width of a letter of 7 pt."""
LINE_MM = 3.4
"""Height of a line of 8 pt."""
TITLE_LETTERS = 32
"""Letters of a strategy's title next to an axis, above which it is broken."""


def broken(words: str, letters: int, most: int = 4) -> str:
    """``words`` in lines of at most ``letters``, a domain at its ``@`` first; after ``most`` lines ``…``."""
    if len(words) <= letters:
        return words
    parts = words.split("@")
    lines: list[str] = []
    for number, part in enumerate(parts):
        lines += textwrap.wrap(("@" if number else "") + part, max(letters, 4)) or [""]
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][: max(1, letters - 1)] + "…"]
    return "\n".join(lines)


def lines(names: Iterable[str]) -> int:
    """Lines of the highest of these labels."""
    return max((name.count("\n") + 1 for name in names), default=1)


def width_mm(names: Iterable[str]) -> float:
    """About how wide the widest line of these labels is."""
    return max((LETTER_MM * len(line) for name in names for line in name.split("\n")), default=0.0)


def row_mm(titles: Iterable[str], each: float) -> float:
    """Height of a row whose label may have several lines; ``each`` is that of a row with one."""
    return max(each, LINE_MM * lines(titles) + 1.2)


def letters_in(room_mm: float) -> int:
    """Letters of a panel's title that fit side by side."""
    return max(8, int(room_mm / (LETTER_MM * 1.17)))


def column_labels(names: Sequence[str], column_mm: float) -> tuple[list[str], int, float]:
    """Labels below columns: their words, by how many degrees they are turned, and the height they take in mm."""
    if all(len(name) * LETTER_MM <= column_mm - 1.5 for name in names):
        return list(names), 0, LINE_MM
    folded = [broken(name, max(8, int(column_mm / LETTER_MM) - 1), 4) for name in names]
    if width_mm(folded) <= column_mm - 1.5 and len(names) <= 6:
        return folded, 0, LINE_MM * lines(folded)
    shown = list(names)
    if column_mm >= 2 * LINE_MM:
        shown = ["\n@".join(name.split("@", 1)) if len(name) > 24 else name for name in names]
    return shown, 90, width_mm(shown) + 2
