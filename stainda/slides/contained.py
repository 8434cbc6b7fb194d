"""Slides that are decoded in a child process: a decoder that crashes, hangs or takes all memory costs its slide alone.

Each process that reads slides has one such child, started with the first slide and used for all of them
(``stainda.slides.reading_process``); one that died is replaced, and the slides that were open are opened again there.
What killed it is tried once more in a fresh one, so that a slide is not blamed for what another one broke.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import threading
import time
import weakref
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.errors import DECODER, SlideError, UnexpectedError
from stainda.processes import command_of, how_it_ended
from stainda.slides.backend import PixelSize

SECONDS = 60.0
"""That opening a slide, or reading a region of it, may take."""
MEMORY = 8 << 30
"""Bytes of data that the process may have, for all slides that are open."""
HERE = "STAINDA_DECODE_HERE"
"""Environment variable: 1 where slides are decoded in the process that reads them."""

_LARGEST = 64 << 20  # pixels of one request: what it takes in time and memory does not grow with the region
_START_SECONDS = 120.0
_COMMAND = command_of("stainda.slides.reading_process")
_REMEDY = "Copy or export it again, or install another version of what reads it (openslide-bin, imagecodecs)"

_numbers = itertools.count()


def is_contained() -> bool:
    """Whether slides are decoded in a child process: on Linux and macOS, unless ``STAINDA_DECODE_HERE=1``."""
    return os.name == "posix" and os.environ.get(HERE) != "1"


class ContainedBackend:
    """A slide whose pixels are decoded in the child process.

    Raises:
        SlideError: what opening it here would raise; or its decoder ended the process, took too long or too much
            memory, now or earlier in this process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._number = next(_numbers)
        described = self._request(None)["slide"]
        weakref.finalize(self, _forget, self._number)
        self.name: str = described["name"]
        self.sizes: tuple[tuple[int, int], ...] = tuple((width, height) for width, height in described["sizes"])
        self.pixel_size = PixelSize(described["mpp"], described["origin"])
        self.bounds: tuple[int, int, int, int] | None = described["bounds"] and tuple(described["bounds"])
        self.notes: tuple[str, ...] = tuple(described["notes"])

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Array:
        image = np.empty((height, width, 3), np.uint8)
        rows = max(1, _LARGEST // width)
        for top in range(0, height, rows):
            part = image[top : top + rows]
            self._request((level, x, y + top, width, len(part)), part)
        return image

    def close(self) -> None:
        _forget(self._number)

    def _request(self, region: tuple[int, ...] | None, into: Array | None = None) -> dict[str, Any]:
        return _child.request(self._path, {"number": self._number, "path": str(self._path), "region": region}, into)


class _EndedError(Exception):
    """The process had to be ended, or ended by itself; the text goes on from "its decoder"."""


class _Child:
    """The reading process of this process; any thread may use it."""

    def __init__(self) -> None:
        self.forgotten: deque[int] = deque()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._fatal: dict[tuple[Any, ...], str] = {}  # what is known of slides that ended it

    def request(self, path: Path, values: dict[str, Any], into: Array | None) -> dict[str, Any]:
        """The answer to a request; pixels go ``into`` an array."""
        with self._lock:
            if self._fatal and (reason := self._fatal.get(_stamp(path))):
                raise SlideError(reason, remedy=_REMEDY)
            fresh = self._process is None
            try:
                answer = self._ask(values, into)
            except _EndedError as error:
                try:
                    if fresh or isinstance(error.__cause__, TimeoutError):
                        raise
                    answer = self._ask(values, into)
                except _EndedError as last:
                    reason = self._fatal[_stamp(path)] = f"{DECODER} {last}"
                    raise SlideError(reason, remedy=_REMEDY) from last
        if "error" in answer:
            raise SlideError(answer["error"], remedy=answer["remedy"])
        return answer

    def stop(self) -> int | None:
        """End the process and wait for it; its exit status."""
        process, connection = self._process, self._socket
        self._process = self._socket = None
        if connection is not None:
            connection.close()
        if process is None:
            return None
        try:
            return process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _ask(self, values: dict[str, Any], into: Array | None) -> dict[str, Any]:
        connection = self._socket or self._start()
        closed = [self.forgotten.popleft() for _ in range(len(self.forgotten))]
        until = time.monotonic() + SECONDS
        try:
            connection.settimeout(SECONDS)
            connection.sendall(json.dumps({**values, "close": closed}).encode() + b"\n")
            answer = _answer(connection, until)
            if "pixels" in answer and into is not None:
                _receive(connection, into.data.cast("B"), until)
        except TimeoutError as error:
            if self._process is not None:
                self._process.kill()
            self.stop()
            raise _EndedError(f"took longer than {SECONDS:g} s and was stopped") from error
        except (EOFError, OSError):
            raise _EndedError(f"crashed ({how_it_ended(self.stop())})") from None
        except BaseException:  # Ctrl-C: what is still to come would be taken for the next answer
            self.stop()
            raise
        if "no_memory" in answer:
            self.stop()
            raise _EndedError(f"needs more than {MEMORY >> 30} GB of memory")
        return answer

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        words = (str(theirs.fileno()), str(os.getpid()), str(MEMORY))
        self._process = subprocess.Popen([*_COMMAND, *words], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._socket = ours
        try:
            _answer(ours, time.monotonic() + _START_SECONDS)
        except (EOFError, OSError):
            self._process.kill()
            raise UnexpectedError(
                f"the process that reads slides does not start ({how_it_ended(self.stop())})",
                remedy=f"What it printed says why. With {HERE}=1 slides are read without it",
            ) from None
        return ours


def _answer(connection: socket.socket, until: float) -> dict[str, Any]:
    length = bytearray(4)
    _receive(connection, memoryview(length), until)
    text = bytearray(int.from_bytes(length, "big"))
    _receive(connection, memoryview(text), until)
    answer: dict[str, Any] = json.loads(text)
    return answer


def _receive(connection: socket.socket, into: memoryview, until: float) -> None:
    """Fill ``into``; raises ``TimeoutError`` or ``EOFError``."""
    while into:
        connection.settimeout(max(0.001, until - time.monotonic()))
        count = connection.recv_into(into)
        if not count:
            raise EOFError
        into = into[count:]


def _stamp(path: Path) -> tuple[Any, ...]:
    try:
        state = path.stat()
    except OSError:
        return (path,)
    return path, state.st_size, state.st_mtime_ns


def _forget(number: int) -> None:
    """Let the child close a slide, with the next request. Without a lock: the garbage collector comes at any time."""
    _child.forgotten.append(number)


_child = _Child()


def _after_fork() -> None:
    """A fork starts a process of its own; that of its parent goes on serving the parent."""
    global _child
    if _child._socket is not None:
        _child._socket.close()
    _child = _Child()


with contextlib.suppress(AttributeError):  # Windows
    os.register_at_fork(after_in_child=_after_fork)
