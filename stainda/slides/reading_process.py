"""Process that decodes slides for another one.

Its arguments are the number of a socket, of the parent, bytes of memory, and on Linux the number of a file in memory
that the parent sees.

Requests are lines of JSON: the slide (a number and its path), and the region that is wanted, or none where the slide
itself is to be described; a region of a slide that is open is six numbers (slide, level, x, y, width, height). An
answer is the length of a JSON text (4 bytes, big-endian), the text, and where that has ``pixels`` as many bytes; of
length 0 where the pixels lie in the file in memory. What libraries print is thrown away.
``stainda.slides.contained`` is the other side.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.errors import SlideError
from stainda.processes import end_with
from stainda.slides.backend import Backend
from stainda.slides.contained import IN_SHARED_MEMORY
from stainda.slides.decoding import open_backend
from stainda.slides.with_openslide import OpenSlideBackend

Answer = tuple[dict[str, Any], Array | None]


class Decoders:
    """The slides that are open here, by number.

    Args:
        shared: uint8; where the pixels of a region fit they are written here, and are what an answer has.
    """

    def __init__(self, shared: Array | None = None) -> None:
        self._open: dict[int, Backend] = {}
        self._shared = np.empty(0, np.uint8) if shared is None else shared

    def answer(self, request: Mapping[str, Any]) -> Answer:
        """What is wanted of a slide, which is opened where it is not open; or why it cannot be had."""
        for number in request["close"]:
            if (backend := self._open.pop(number, None)) is not None:
                backend.close()
        number, region = request["number"], request["region"]
        try:
            if number not in self._open:
                self._open[number] = open_backend(Path(request["path"]))
            backend = self._open[number]
            if region is None:
                return {"slide": _described(backend)}, None
            pixels = self._pixels(backend, *region)
            return {"pixels": pixels.nbytes}, pixels
        except SlideError as error:
            return {"error": error.message, "remedy": error.remedy}, None
        except MemoryError:
            return {"no_memory": True}, None
        except Exception as error:  # a fault of a library, which nobody foresaw
            return {"error": f"cannot be decoded ({type(error).__name__}: {error})", "remedy": None}, None

    def _pixels(self, backend: Backend, level: int, x: int, y: int, width: int, height: int) -> Array:
        size = height * width * 3
        if size > len(self._shared):
            return np.ascontiguousarray(backend.read(level, x, y, width, height))
        into = self._shared[:size].reshape(height, width, 3)
        if isinstance(backend, OpenSlideBackend):
            pixels = backend.read(level, x, y, width, height, into)
        else:
            pixels = backend.read(level, x, y, width, height)
        if pixels is not into:
            into[:] = pixels
        return into


def _described(backend: Backend) -> dict[str, Any]:
    size = backend.pixel_size
    return {
        "name": backend.name, "sizes": backend.sizes, "mpp": size.mpp, "origin": size.origin,
        "bounds": backend.bounds, "notes": backend.notes,
    }  # fmt: skip


def limit_memory(most: int) -> None:
    """Let this process have ``most`` bytes of data; only Linux holds to it."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def main() -> None:
    handle, parent, memory = (int(word) for word in sys.argv[1:4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which closes the socket
    shared = _shared(int(sys.argv[4])) if len(sys.argv) > 4 else None
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    limit_memory(memory)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    decoders = Decoders(shared)
    with socket.socket(fileno=handle) as connection:
        _send(connection, {"ready": True}, None)
        os.dup2(silence, 2)  # from here on; why it does not start is seen
        for line in _lines(connection):
            _send(connection, *decoders.answer(_request(line)), shared)
    os._exit(0)  # without the threads of libraries


def _lines(connection: socket.socket) -> Iterator[bytes]:
    """One after the other; the next one comes after the answer to this."""
    line = b""
    while came := connection.recv(1 << 16):
        line += came
        if line.endswith(b"\n"):
            yield line
            line = b""


def _request(line: bytes) -> Mapping[str, Any]:
    if line.startswith(b"{"):
        values: dict[str, Any] = json.loads(line.decode())
        return values
    number, *region = map(int, line.split())
    return {"number": number, "region": region, "close": ()}


def _shared(handle: int) -> Array:
    shared: Array = np.frombuffer(mmap.mmap(handle, os.fstat(handle).st_size), np.uint8)
    os.close(handle)
    return shared


def _send(connection: socket.socket, text: dict[str, Any], pixels: Array | None, shared: Array | None = None) -> None:
    if pixels is not None and shared is not None and np.may_share_memory(pixels, shared):
        connection.sendall(IN_SHARED_MEMORY)
        return
    data = json.dumps(text).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)
    if pixels is not None:
        connection.sendall(pixels.data.cast("B"))
