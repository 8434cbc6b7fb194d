"""Streaming GeoJSON reader: one feature at a time, so that large exports need little memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from stainda.annotations.guarded import MAX_BYTES, JsonLimits, not_json
from stainda.annotations.unpacking import Member, too_large
from stainda.errors import AnnotationError

MAX_STREAMED = 4_000_000_000  # bytes of text
MAX_FEATURES = 5_000_000
_PIECE = 1 << 20
_TOKEN = 16  # letters of the longest unfinished number or word at the end of a piece that are not yet an error
_SPACE = re.compile("[ \\t\\r\\n]*")


class FeatureStream:
    """The features of a GeoJSON document, read as they are requested.

    After the last one, ``rest`` holds the other members of the document (or the whole of it where it is no collection
    but one feature or geometry), and ``is_list`` whether it was a bare list.

    Args:
        stream: the bytes. member: where they come from, for errors.
        max_bytes: of text. One feature may have at most :data:`stainda.annotations.guarded.MAX_BYTES`.
    """

    def __init__(self, stream: BinaryIO, member: Member, max_bytes: int = MAX_STREAMED) -> None:
        self.rest: dict[str, Any] = {}
        self.is_list = False
        self._stream, self._path, self._max = stream, member.path, max_bytes
        self._text, self._at = "", 0
        self._bytes, self._lines, self._done = 0, 1, False
        self._step = _PIECE
        self._decoder: codecs.IncrementalDecoder | None = None
        self._json = json.JSONDecoder()
        self._limits = JsonLimits()

    def __iter__(self) -> Iterator[Any]:
        """The features.

        Raises:
            AnnotationError: not JSON (with its line), too large, nested too deep, too many features.
        """
        first = self._peek()
        if not first:
            raise AnnotationError("the file is empty", file=self._path, remedy="Export the annotations again")
        if first == "[":
            self.is_list = True
            yield from self._elements()
        elif first == "{":
            yield from self._object()
        else:
            self._value()  # a number or a text is JSON, but holds no feature
        if self._peek():
            raise self._fault("Extra data")

    def _object(self) -> Iterator[Any]:
        self._at += 1
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            if self._peek() != '"':
                raise self._fault("Expecting property name enclosed in double quotes")
            key = self._value()
            self._take(":")
            if key == "features" and self._peek() == "[":
                self.rest[key] = []
                yield from self._elements()
            else:
                self.rest[key] = self._value()
            if self._peek() == "}":
                self._at += 1
                return
            self._take(",")

    def _elements(self) -> Iterator[Any]:
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        count = 0
        while True:
            yield self._value()
            count += 1
            if count > MAX_FEATURES:
                raise AnnotationError(
                    f"more than {MAX_FEATURES:,} features",
                    file=self._path,
                    remedy="Export fewer objects (in QuPath: File > Export objects as GeoJSON > Selected objects)",
                )
            if self._peek() == "]":
                self._at += 1
                return
            self._take(",")

    def _take(self, mark: str) -> None:
        if self._peek() != mark:
            raise self._fault(f"Expecting {mark!r} delimiter")
        self._at += 1

    def _peek(self) -> str:
        """The next letter that is no space, which is then the current one; empty at the end."""
        while True:
            spaces = _SPACE.match(self._text, self._at)
            assert spaces is not None  # it always matches
            self._at = spaces.end()
            if self._at < len(self._text):
                return self._text[self._at]
            self._step = _PIECE
            if not self._more():
                return ""

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _TOKEN
                if not (unfinished and self._more()):
                    raise self._fault(error.msg, error.pos) from error
                continue
            except (RecursionError, ValueError) as error:
                raise self._fault(str(error)) from error
            open_ended = not isinstance(value, dict | list | str) and end >= len(self._text) - _TOKEN
            if open_ended and self._more():
                continue  # a number may go on behind its point or its e
            self._at = end
            self._step = _PIECE
            self._limits.next_part()
            return value

    def _more(self) -> bool:
        """Read on; each time that one value is still not whole, twice as much, so that none is begun too often."""
        if self._done:
            return False
        if len(self._text) - self._at > MAX_BYTES:
            raise AnnotationError(
                f"one object has more than {MAX_BYTES / 1e6:.0f} MB",
                file=self._path,
                remedy="Simplify its outline, or leave it out of the export",
            )
        data = self._stream.read(self._step)
        self._step = min(2 * self._step, 64 * _PIECE)
        self._bytes += len(data)
        if self._bytes > self._max:
            raise too_large(self._path, self._max, "the text")
        self._done = not data
        text = self._decoded(data)
        self._limits.feed(text.encode("utf-8", "surrogatepass"), self._path)
        self._lines += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + text, 0
        return True

    def _decoded(self, data: bytes) -> str:
        first = self._decoder is None
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder(json.detect_encoding(data[:64]))()
        try:
            text = self._decoder.decode(data, final=self._done)
        except UnicodeDecodeError as error:
            raise AnnotationError(
                "the text is not UTF-8", file=self._path, remedy="Export the annotations again as JSON"
            ) from error
        return text.removeprefix("\ufeff") if first else text

    def _fault(self, message: str, at: int | None = None) -> AnnotationError:
        at = self._at if at is None else at
        cut = self._done and at >= len(self._text.rstrip()) - 1
        return not_json(self._path, message, self._lines + self._text.count("\n", 0, at), cut)
