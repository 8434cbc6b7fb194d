"""Safe reading of files that may be broken or hostile: size and depth are limited."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from stainda.annotations.unpacking import only_member, too_large
from stainda.errors import AnnotationError

MAX_BYTES = 256_000_000
MAX_DEPTH = 64
MAX_PARTS = 20_000_000  # lists and objects of JSON, about 60 bytes each at least
MAX_ELEMENTS = 5_000_000  # of XML, about 400 bytes each
_PIECE = 1 << 20


def check_file(path: Path, max_bytes: int = MAX_BYTES, remedy: str = "") -> None:
    """Refuse what is no file, empty, or larger than ``max_bytes``, before any of it is read.

    Args:
        remedy: what to do about too large a file; default: as for a file of outlines.

    Raises:
        AnnotationError: any of these.
    """
    if path.is_dir():
        raise AnnotationError("this is a folder, not a file of annotations", file=path, remedy="Name a file in it")
    if not path.is_file():
        raise AnnotationError("there is no such file", file=path, remedy="Check the path")
    size = path.stat().st_size
    if size > max_bytes:
        raise too_large(path, max_bytes, f"{size / 1e6:.0f} MB", remedy)
    if size == 0:
        raise AnnotationError("the file is empty", file=path, remedy="Export the annotations again")


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a file, unpacked where it is a gzip or zip file of one.

    Raises:
        AnnotationError: no such file, a folder, empty, larger than ``max_bytes``, or an archive that cannot be read.
    """
    check_file(path, max_bytes)
    data = only_member(path).read(max_bytes)
    if not data.strip():
        raise AnnotationError("the file is empty", file=path, remedy="Export the annotations again")
    return data


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> object:
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
        raise not_json(path, error.msg, error.lineno, error.pos >= len(text.rstrip()) - 1) from error
    except (RecursionError, ValueError) as error:
        raise AnnotationError(f"not valid JSON: {error}", file=path, remedy="Export the annotations again") from error


def not_json(path: Path, message: str, row: int | None, cut_short: bool) -> AnnotationError:
    """The error about a text that is not JSON at a row."""
    remedy = "Export the annotations again" + ("; the file seems cut short" if cut_short else "")
    return AnnotationError(f"not valid JSON: {message}", file=path, row=row, remedy=remedy)


def _refuse_hostile(text: str, path: Path) -> None:
    """Refuse what is nested too deep, or holds so many lists and objects that they would fill the memory.

    Brackets are first counted without regard to strings, which only overestimates; only where that is too much are
    strings distinguished. Both go through the text in pieces and stop where the limit is passed.
    """
    raw = text.encode("utf-8")
    if _within_limits(raw):
        return
    JsonLimits().feed(raw, path)


def _within_limits(raw: bytes) -> bool:
    """Whether all is well even if brackets within strings are counted too: quick, and nearly always enough."""
    limits = JsonLimits(strings=False)
    return limits.accepts(raw)


class JsonLimits:
    """Depth and number of lists and objects of a JSON text that comes piece by piece.

    Args:
        strings: tell strings apart, whose brackets do not count.
    """

    def __init__(self, strings: bool = True) -> None:
        self._strings = strings
        self._depth = self._parts = self._quotes = 0
        self._pending = False

    def next_part(self) -> None:
        """What was fed so far is done with, and its lists take no memory any more."""
        self._parts = 0

    def feed(self, raw: bytes, path: Path) -> None:
        """Take the next bytes.

        Raises:
            AnnotationError: nested deeper than :data:`MAX_DEPTH`, or more lists and objects than :data:`MAX_PARTS`.
        """
        if not self.accepts(raw):
            raise AnnotationError(
                f"nested more than {MAX_DEPTH} deep, or more than {MAX_PARTS:,} lists and objects, "
                "which no annotation is",
                file=path,
                remedy="Is it the right file? Else export fewer objects",
            )

    def accepts(self, raw: bytes) -> bool:
        import numpy as np

        for start in range(0, len(raw), _PIECE):
            piece = np.frombuffer(raw, np.uint8, min(_PIECE, len(raw) - start), start)
            step = np.zeros(len(piece), np.int8)
            # [ ] { } are 0x5B 0x5D 0x7B 0x7D
            step[(piece | 0x20) == 0x7B] = 1
            step[(piece | 0x20) == 0x7D] = -1
            if self._strings:
                escaped, self._pending = _escaped(piece, self._pending)
                count = np.cumsum((piece == ord('"')) & ~escaped) + self._quotes
                self._quotes = int(count[-1])
                step[count % 2 == 1] = 0
            moves = step[step != 0]
            depths = np.cumsum(moves, dtype=np.int64) + self._depth
            self._parts += int((moves > 0).sum())
            if depths.max(initial=0) > MAX_DEPTH or self._parts > MAX_PARTS:
                return False
            self._depth = int(depths[-1]) if len(depths) else self._depth
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
    """The rows of a CSV file as text, header first (at least that), blank rows left out; commas, semicolons or tabs.

    Raises:
        AnnotationError: too large, not text in rows, or nothing but blank rows.
    """
    text = read_bytes(path, max_bytes).decode("utf-8-sig", errors="replace")
    header = text.splitlines()[0]
    separator = max((",", ";", "\t"), key=header.count)
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise AnnotationError(f"not a CSV file ({error})", file=path, remedy="Export it again") from error
    filled = [row for row in rows if any(cell.strip() for cell in row)]
    if not filled:
        raise AnnotationError("all its rows are blank", file=path, row=1, remedy="Export it again")
    return filled


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
            raise AnnotationError(
                f"more than {MAX_ELEMENTS:,} elements", file=self._path, remedy="Export fewer objects"
            )
        if self._depth > MAX_DEPTH:
            raise AnnotationError(
                f"nested more than {MAX_DEPTH} deep, which no annotation is",
                file=self._path,
                remedy="Is it the right file?",
            )
        return self._builder.start(tag, attributes)

    def end(self, tag: str) -> Any:
        self._depth -= 1
        return self._builder.end(tag)

    def data(self, text: str) -> Any:
        return self._builder.data(text)

    def close(self) -> Any:
        return self._builder.close()
