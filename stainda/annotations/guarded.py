"""Reading files that may be broken or hostile: bounded in size and depth."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from stainda.errors import AnnotationError

MAX_BYTES = 256_000_000
MAX_DEPTH = 64


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
    except OSError as error:
        raise AnnotationError(
            f"cannot be read ({error.strerror})", file=path, remedy="Check its permissions"
        ) from error
    if not data.strip():
        raise AnnotationError("the file is empty", file=path, remedy="Export the annotations again")
    return data


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """A JSON document, UTF-8 (or UTF-16 with its mark); ``NaN`` is read, since QuPath writes it in measurements.

    Raises:
        AnnotationError: too large, not JSON (with its line), or nested deeper than :data:`MAX_DEPTH`.
    """
    data = read_bytes(path, max_bytes)
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise AnnotationError(
            "the text is not UTF-8", file=path, remedy="Export the annotations again as JSON"
        ) from error
    text = text.removeprefix("\ufeff")
    if _depth(text) > MAX_DEPTH:
        raise AnnotationError(f"nested more than {MAX_DEPTH} deep, which no annotation is", file=path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        remedy = "Export the annotations again" + (
            "; the file seems cut short" if error.pos >= len(text.rstrip()) - 1 else ""
        )
        raise AnnotationError(f"not valid JSON: {error.msg}", file=path, row=error.lineno, remedy=remedy) from error
    except (RecursionError, ValueError) as error:
        raise AnnotationError(f"not valid JSON: {error}", file=path, remedy="Export the annotations again") from error


def _depth(text: str) -> int:
    """An upper bound of the nesting: brackets counted without regard to strings, which only raises it.

    Brackets in strings that are never closed could raise it beyond the truth; then it is counted exactly.
    """
    import numpy as np

    raw = np.frombuffer(text.encode("utf-8"), np.uint8)
    if _balance(raw) <= MAX_DEPTH:
        return _balance(raw)
    quotes = (raw == ord('"')) & ~_escaped(raw)
    outside = np.cumsum(quotes) % 2 == 0
    return _balance(raw[outside])


def _balance(raw: Any) -> int:
    import numpy as np

    step = np.zeros(len(raw), np.int8)
    step[(raw == ord("[")) | (raw == ord("{"))] = 1
    step[(raw == ord("]")) | (raw == ord("}"))] = -1
    moves = step[step != 0]
    return int(np.cumsum(moves, dtype=np.int64).max(initial=0))


def _escaped(raw: Any) -> Any:
    """Whether each byte follows an odd run of backslashes."""
    import numpy as np

    slash = raw == ord("\\")
    position = np.arange(len(raw))
    last_other = np.maximum.accumulate(np.where(slash, -1, position))
    run = position - last_other  # length of the run of backslashes that ends here
    return np.concatenate([[False], run[:-1] % 2 == 1])


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

    def start(self, tag: str, attributes: dict[str, str]) -> Any:
        self._depth += 1
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
