"""Slides that are decoded in a child process: a decoder that crashes, hangs or takes all memory costs its slide alone.

Each process that reads slides has one such child, started with the first slide and used for all of them
(``stainda.slides.reading_process``); one that died is replaced, and the slides that were open are opened again there.
What killed it is tried once more in a fresh one, so that a slide is not blamed for what another one broke.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
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
IN_SHARED_MEMORY = bytes(4)
"""An answer without text: the pixels of the region lie in the memory that both processes see."""
HERE = "STAINDA_DECODE_HERE"
"""Environment variable: 1 where slides are decoded in the process that reads them."""

_LARGEST = 64 << 20  # pixels of one request: what it takes in time and memory does not grow with the region
_SHARED = 16 << 20  # bytes of pixels that cross through memory of both processes; more cross through the socket
_ANSWER = 1 << 16  # bytes; most answers come in one piece
_START_SECONDS = 120.0
_NONE: Array = np.empty(0, np.uint8)
_COMMAND = command_of("stainda.slides.reading_process")
_REMEDY = "Copy or export it again, or install another version of what reads it (openslide-bin, imagecodecs)"

_numbers = itertools.count()

Region = tuple[int, int, int, int, int]


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
        described = _child.request(self._path, self._number)["slide"]
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
            _child.request(self._path, self._number, (level, x, y + top, width, len(part)), part)
        return image

    def close(self) -> None:
        _forget(self._number)


class _EndedError(Exception):
    """The process had to be ended, or ended by itself; the text goes on from "its decoder"."""


class _Child:
    """The reading process of this process; any thread may use it."""

    def __init__(self) -> None:
        self.forgotten: deque[int] = deque()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._shared: mmap.mmap | None = None
        self._open: set[int] = set()  # slides, in the process
        self._fatal: dict[tuple[Any, ...], str] = {}  # what is known of slides that ended it

    def request(
        self, path: Path, number: int, region: Region | None = None, into: Array | None = None
    ) -> dict[str, Any]:
        """What a slide is, or a region of it (level, x, y, width, height), whose pixels go ``into`` an array."""
        with self._lock:
            if self._fatal and (reason := self._fatal.get(_stamp(path))):
                raise SlideError(reason, remedy=_REMEDY)
            fresh = self._process is None
            try:
                answer = self._ask(path, number, region, into)
            except _EndedError as error:
                try:
                    if fresh or isinstance(error.__cause__, TimeoutError):
                        raise
                    answer = self._ask(path, number, region, into)
                except _EndedError as last:
                    reason = self._fatal[_stamp(path)] = f"{DECODER} {last}"
                    raise SlideError(reason, remedy=_REMEDY) from last
        if "error" in answer:
            raise SlideError(answer["error"], remedy=answer["remedy"])
        return answer

    def stop(self) -> int | None:
        """End the process and wait for it; its exit status."""
        process, connection = self._process, self._socket
        self._open.clear()
        self._process = self._socket = self._shared = None
        if connection is not None:
            connection.close()
        if process is None:
            return None
        try:
            return process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _ask(self, path: Path, number: int, region: Region | None, into: Array | None) -> dict[str, Any]:
        connection = self._socket or self._start()
        request = self._line(path, number, region)
        until = time.monotonic() + SECONDS
        try:
            connection.sendall(request)
            answer, pixels = _answer(connection, until)
            if into is not None and not answer and self._shared is not None:
                into.reshape(-1)[:] = np.frombuffer(self._shared, np.uint8, into.nbytes)
            elif into is not None and "pixels" in answer:
                into.reshape(-1)[: len(pixels)] = pixels
                _receive(connection, into.data.cast("B")[len(pixels) :], until)
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
        if "error" not in answer:
            self._open.add(number)
        return answer

    def _line(self, path: Path, number: int, region: Region | None) -> bytes:
        if region is not None and number in self._open and not self.forgotten:
            return b"%d %d %d %d %d %d\n" % (number, *region)
        closed = [self.forgotten.popleft() for _ in range(len(self.forgotten))]
        self._open.difference_update(closed)
        request = {"number": number, "path": str(path), "region": region, "close": closed}
        return json.dumps(request).encode() + b"\n"

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        memory, self._shared = _shared_memory()
        handed = [theirs.fileno(), *memory]
        words = (str(theirs.fileno()), str(os.getpid()), str(MEMORY), *map(str, memory))
        self._process = subprocess.Popen([*_COMMAND, *words], pass_fds=handed, stdin=subprocess.DEVNULL)
        theirs.close()
        for handle in memory:
            os.close(handle)
        self._socket = ours
        try:
            ours.settimeout(_START_SECONDS)
            _answer(ours, time.monotonic() + _START_SECONDS)
        except (EOFError, OSError):
            self._process.kill()
            raise UnexpectedError(
                f"the process that reads slides does not start ({how_it_ended(self.stop())})",
                remedy=f"What it printed says why. With {HERE}=1 slides are read without it",
            ) from None
        ours.settimeout(SECONDS)
        return ours


def _shared_memory() -> tuple[list[int], mmap.mmap | None]:
    """Memory for pixels that both processes see, and the file that it is (Linux).

    Its size is sealed: a process that reads memory whose file was made shorter is ended (SIGBUS).
    """
    try:
        import fcntl

        handle = os.memfd_create("stainda", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (ImportError, AttributeError, OSError):  # macOS: through the socket
        return [], None
    try:
        os.ftruncate(handle, _SHARED)
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return [handle], mmap.mmap(handle, _SHARED, access=mmap.ACCESS_READ)
    except (AttributeError, OSError):
        os.close(handle)
        return [], None


def _answer(connection: socket.socket, until: float) -> tuple[dict[str, Any], Array]:
    """An answer, empty where its pixels lie in the shared memory, and those bytes of its pixels that came with it."""
    first = connection.recv(_ANSWER)
    if not first:
        raise EOFError
    if first == IN_SHARED_MEMORY:
        return {}, _NONE
    came = bytearray(first)
    _complete(came, 4, connection, until)
    length = 4 + int.from_bytes(came[:4], "big")
    _complete(came, length, connection, until)
    answer: dict[str, Any] = json.loads(came[4:length])
    return answer, np.frombuffer(came, np.uint8, offset=length)


def _complete(came: bytearray, length: int, connection: socket.socket, until: float) -> None:
    if len(came) < length:
        rest = bytearray(length - len(came))
        _receive(connection, memoryview(rest), until)
        came += rest


def _receive(connection: socket.socket, into: memoryview, until: float) -> None:
    """Fill ``into``; raises ``TimeoutError`` or ``EOFError``."""
    while into:
        connection.settimeout(max(0.001, until - time.monotonic()))
        count = connection.recv_into(into)
        if not count:
            raise EOFError
        into = into[count:]
    connection.settimeout(SECONDS)


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
