"""Reading files that may be broken or hostile: bounded in size and depth."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any

from stainda.errors import AnnotationError

MAX_BYTES = 256_000_000
MAX_DEPTH = 64
MAX_PARTS = 20_000_000  # lists and objects of JSON, about 60 bytes each at least
MAX_ELEMENTS = 5_000_000  # of XML, about 400 bytes each
_PIECE = 1 << 20


def check_file(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Refuse what is no file, empty, or larger than ``max_bytes``, before any of it is read.

    Raises:
        AnnotationError: any of these.
    """
    if path.is_dir():
        raise AnnotationError("this is a folder, not a file of annotations", file=path, remedy="Name a file in it")
    if not path.is_file():
        raise AnnotationError("there is no such file", file=path, remedy="Check the path")
    size = path.stat().st_size
    if size > max_bytes:
        raise AnnotationError(
            f"{size / 1e6:.0f} MB is more than is read ({max_bytes / 1e6:.0f} MB)",
            file=path,
            remedy="Split the file, or raise max_bytes if it is trusted",
        )
    if size == 0:
        raise AnnotationError("the file is empty", file=path, remedy="Export the annotations again")


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a file.

    Raises:
        AnnotationError: no such file, a folder, empty, or larger than ``max_bytes``.
    """
    check_file(path, max_bytes)
    try:
        data = path.read_bytes()
        if is_gzip(data):
            data = _unpacked(path, max_bytes)
    except OSError as error:
        raise AnnotationError(
            f"cannot be read ({error.strerror})", file=path, remedy="Check its permissions"
        ) from error
    if not data.strip():
        raise AnnotationError("the file is empty", file=path, remedy="Export the annotations again")
    return data


def is_gzip(data: bytes) -> bool:
    return data.startswith(b"\x1f\x8b")


def _unpacked(path: Path, max_bytes: int) -> bytes:
    """The content of a gzip file (``.geojson.gz``), bounded before it is unpacked."""
    try:
        with gzip.open(path) as stream:
            data = stream.read(max_bytes + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise AnnotationError(f"not a whole gzip file ({error})", file=path, remedy="Export it again") from error
    if len(data) > max_bytes:
        raise AnnotationError(f"unpacks to more than is read ({max_bytes / 1e6:.0f} MB)", file=path)
    return data


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """A JSON document, UTF-8 (or UTF-16 with its mark); ``NaN`` is read, since QuPath writes it in measurements.

    Raises:
        AnnotationError: too large, not JSON (with its line), nested deeper than :data:`MAX_DEPTH`, or of more than
            :data:`MAX_PARTS` lists and objects.
    """
    data = read_bytes(path, max_bytes)
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise AnnotationError(
            "the text is not UTF-8", file=path, remedy="Export the annotations again as JSON"
        ) from error
    text = text.removeprefix("\ufeff")
    _refuse_hostile(text, path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        remedy = "Export the annotations again" + (
            "; the file seems cut short" if error.pos >= len(text.rstrip()) - 1 else ""
        )
        raise AnnotationError(f"not valid JSON: {error.msg}", file=path, row=error.lineno, remedy=remedy) from error
    except (RecursionError, ValueError) as error:
        raise AnnotationError(f"not valid JSON: {error}", file=path, remedy="Export the annotations again") from error


def _refuse_hostile(text: str, path: Path) -> None:
    """Refuse what is nested too deep, or holds so many lists and objects that they would fill the memory.

    Brackets are first counted without regard to strings, which only overestimates; only where that is too much are
    strings told apart. Both go through the text in pieces and stop where the limit is passed.
    """
    raw = text.encode("utf-8")
    if _within_limits(raw, strings=False):
        return
    if not _within_limits(raw, strings=True):
        raise AnnotationError(
            f"nested more than {MAX_DEPTH} deep, or more than {MAX_PARTS:,} lists and objects, which no annotation is",
            file=path,
        )


def _within_limits(raw: bytes, strings: bool) -> bool:
    import numpy as np

    depth, parts, quotes, pending = 0, 0, 0, False
    for start in range(0, len(raw), _PIECE):
        piece = np.frombuffer(raw, np.uint8, min(_PIECE, len(raw) - start), start)
        step = np.zeros(len(piece), np.int8)
        # [ ] { } are 0x5B 0x5D 0x7B 0x7D
        step[(piece | 0x20) == 0x7B] = 1
        step[(piece | 0x20) == 0x7D] = -1
        if strings:
            escaped, pending = _escaped(piece, pending)
            count = np.cumsum((piece == ord('"')) & ~escaped) + quotes
            quotes = int(count[-1])
            step[count % 2 == 1] = 0
        moves = step[step != 0]
        depths = np.cumsum(moves, dtype=np.int64) + depth
        parts += int((moves > 0).sum())
        if depths.max(initial=0) > MAX_DEPTH or parts > MAX_PARTS:
            return False
        depth = int(depths[-1]) if len(depths) else depth
    return True


def _escaped(piece: Any, pending: bool) -> tuple[Any, bool]:
    """Whether each byte follows an odd run of backslashes, and whether the byte after the piece does.

    ``pending``: whether the first byte of the piece does, from the piece before.
    """
    import numpy as np

    slash = piece == ord("\\")
    if pending:  # the first byte is taken; a backslash there starts no run
        slash = slash.copy()
        slash[0] = False
    position = np.arange(len(piece))
    run = position - np.maximum.accumulate(np.where(slash, -1, position))  # of backslashes that ends here
    odd = run % 2 == 1
    return np.concatenate([[pending], odd[:-1]]), bool(odd[-1])


def read_csv(path: Path, max_bytes: int = MAX_BYTES) -> list[list[str]]:
    """The rows of a CSV file as text, header first, blank rows left out; commas, semicolons or tabs.

    Raises:
        AnnotationError: too large, or not text in rows.
    """
    text = read_bytes(path, max_bytes).decode("utf-8-sig", errors="replace")
    header = text.splitlines()[0]
    separator = max((",", ";", "\t"), key=header.count)
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise AnnotationError(f"not a CSV file ({error})", file=path, remedy="Export it again") from error
    return [row for row in rows if any(cell.strip() for cell in row)]


def read_xml(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """The root element of an XML document; document types and entities are refused (no bombs, no other files).

    Raises:
        AnnotationError: too large, not XML (with its line), hostile, or nested deeper than :data:`MAX_DEPTH`.
    """
    import defusedxml
    from defusedxml.ElementTree import DefusedXMLParser, ParseError

    data = read_bytes(path, max_bytes)
    parser = DefusedXMLParser(target=_ShallowTree(path), forbid_dtd=True)
    try:
        parser.feed(data)
        return parser.close()
    except ParseError as error:
        line = error.position[0] if getattr(error, "position", None) else None
        raise AnnotationError(f"not valid XML: {error}", file=path, row=line, remedy="Export it again") from error
    except defusedxml.DefusedXmlException as error:
        raise AnnotationError(
            "the XML defines a document type or entities, which no annotation needs",
            file=path,
            remedy="Do not trust it",
        ) from error
    except (ValueError, LookupError) as error:
        raise AnnotationError(f"not valid XML: {error}", file=path, remedy="Export it again") from error


class _ShallowTree:
    """Builds elements, and stops where they are nested too deep for any annotation."""

    def __init__(self, path: Path) -> None:
        from xml.etree.ElementTree import TreeBuilder  # fed by the hardened parser only

        self._builder = TreeBuilder()
        self._path = path
        self._depth = 0
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> Any:
        self._depth += 1
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise AnnotationError(f"more than {MAX_ELEMENTS:,} elements, which no annotation has", file=self._path)
        if self._depth > MAX_DEPTH:
            raise AnnotationError(f"nested more than {MAX_DEPTH} deep, which no annotation is", file=self._path)
        return self._builder.start(tag, attributes)

    def end(self, tag: str) -> Any:
        self._depth -= 1
        return self._builder.end(tag)

    def data(self, text: str) -> Any:
        return self._builder.data(text)

    def close(self) -> Any:
        return self._builder.close()
