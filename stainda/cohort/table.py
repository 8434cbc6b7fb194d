"""The manifest file as rows of text, before validation."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from stainda.errors import ManifestError

MAX_BYTES = 50_000_000


@dataclass(frozen=True)
class ManifestTable:
    """The cells of a CSV file. ``rows`` holds (row number as a spreadsheet counts, cells by column name).

    ``ragged`` lists rows with more cells than the header, as (row number, cells found).
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    ragged: tuple[tuple[int, int], ...]


def read_table(path: Path) -> ManifestTable:
    """Read a comma-separated UTF-8 file with a header; blank rows are passed over.

    Raises:
        ManifestError: there is no such file, it is no comma-separated UTF-8 text, or it has no header or names a
            column twice. Each says what the file is instead and how to save it.
    """
    text = _text(path)
    lines = text.splitlines()
    header = next((line for line in lines if line.strip()), "")
    _refuse_other_separators(path, header)
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ManifestError(
            f"not a comma-separated file ({error})", file=path, remedy="Save it again as 'CSV UTF-8 (comma delimited)'"
        ) from error
    first = next((index for index, cells in enumerate(records) if _filled(cells)), None)
    if first is None:
        raise ManifestError("the manifest is empty", file=path, remedy="Write a header and one row per slide")
    columns = [cell.strip().lower() for cell in records[first]]
    while columns and not columns[-1]:
        columns.pop()
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise ManifestError(
            f"columns named twice: {', '.join(twice)}", file=path, row=first + 1, remedy="Keep one of each"
        )
    rows, ragged = [], []
    for index, cells in enumerate(records[first + 1 :], start=first + 2):
        if not _filled(cells):
            continue
        if any(cell.strip() for cell in cells[len(columns) :]):
            ragged.append((index, len(cells)))
        values = [cell.strip() for cell in cells[: len(columns)]]
        values += [""] * (len(columns) - len(values))
        rows.append((index, {name: value for name, value in zip(columns, values, strict=True) if name}))
    return ManifestTable(tuple(name for name in columns if name), tuple(rows), tuple(ragged))


def absolute(path: str | Path) -> Path:
    """The absolute path, without following links: stores keep files behind links under names that tell no format."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _filled(cells: list[str]) -> bool:
    return any(cell.strip() for cell in cells)


def _text(path: Path) -> str:
    if path.is_dir():
        raise ManifestError("this is a folder", file=path, remedy="Name the manifest's CSV file in it")
    if not path.is_file():
        raise ManifestError("there is no such file", file=path, remedy="Check the path of the manifest")
    if path.stat().st_size > MAX_BYTES:
        raise ManifestError(f"larger than {MAX_BYTES // 1_000_000} MB, which no manifest is", file=path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"cannot be read ({error.strerror})", file=path, remedy="Check its permissions") from error
    save = "Save it again as 'CSV UTF-8 (comma delimited)'"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(data) > 3 and data[1:4:2] == b"\0\0"):
        raise ManifestError("the file is UTF-16 ('Unicode text')", file=path, remedy=save)
    if data[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise ManifestError("the file is a spreadsheet (Excel, OpenOffice), not CSV", file=path, remedy=save)
    if b"\0" in data:
        raise ManifestError("the file is not text", file=path, remedy="Give a comma-separated file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise ManifestError("the text is not UTF-8", file=path, row=row, remedy=save) from error


def _refuse_other_separators(path: Path, header: str) -> None:
    if "," in header:
        return
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if separator in header:
            raise ManifestError(
                f"the columns are separated by {name}, not by commas",
                file=path,
                remedy="Save it again as 'CSV UTF-8 (comma delimited)', with a point in decimal numbers",
            )
