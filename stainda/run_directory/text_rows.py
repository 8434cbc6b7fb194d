"""Reading a table of a run directory as text, also after a person has saved it from a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from stainda.errors import RecordError


def read_text_rows(path: Path, needed: Iterable[str], remedy: str) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a comma-separated file with a header, every cell as text; blank rows are passed over.

    Args:
        path: the file. A byte order mark, as spreadsheets write it, is no part of the first column's name.
        needed: columns that have to be there.
        remedy: what to do where the file is no such table.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: it cannot be read, is not UTF-8, lacks a needed column or names one twice, or a row has more or
            fewer cells than the header; with the row, counted as a spreadsheet does.
    """
    header: list[str] = []
    rows: list[dict[str, str]] = []
    number = 0
    reader = csv.reader(io.StringIO(_text(path, remedy), newline=""), strict=True)
    try:
        for number, cells in enumerate(reader, start=1):
            if not cells:
                continue
            if not header:
                header = _header(path, cells, number, needed, remedy)
                continue
            if len(cells) != len(header):
                raise RecordError(
                    f"{len(cells)} cells, and the header has {len(header)}", file=path, row=number, remedy=remedy
                )
            rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise RecordError(f"not comma-separated text ({error})", file=path, row=number + 1, remedy=remedy) from error
    if not header and (lacking := ", ".join(needed)):
        raise RecordError(f"the table is empty; expected were the columns {lacking}", file=path, remedy=remedy)
    return header, rows


def _text(path: Path, remedy: str) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"cannot be read ({error.strerror})", file=path, remedy=remedy) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise RecordError("the text is not UTF-8", file=path, row=row, remedy=remedy) from error


def _header(path: Path, cells: list[str], row: int, needed: Iterable[str], remedy: str) -> list[str]:
    if twice := sorted({name for name in cells if cells.count(name) > 1}):
        raise RecordError(f"columns named twice: {', '.join(twice)}", file=path, row=row, remedy=remedy)
    if lacking := [name for name in needed if name not in cells]:
        message = f"columns {', '.join(lacking)} are missing"
        if len(cells) == 1 and any(separator in cells[0] for separator in ";\t"):
            message += "; the columns are not separated by commas"
        raise RecordError(message, file=path, row=row, remedy=remedy)
    return cells
