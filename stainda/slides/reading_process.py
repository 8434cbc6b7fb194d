"""Process that decodes slides for another one; its arguments are the number of a socket, of the parent, and bytes.

Requests are lines of JSON: the slide (a number and its path), and the region that is wanted, or none where the slide
itself is to be described. An answer is the length of a JSON text (4 bytes, big-endian), the text, and where that has
``pixels`` as many bytes. What libraries print is thrown away. ``stainda.slides.contained`` is the other side.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.errors import SlideError
from stainda.processes import end_with
from stainda.slides.backend import Backend
from stainda.slides.decoding import open_backend

Answer = tuple[dict[str, Any], Array | None]


class Decoders:
    """The slides that are open here, by number."""

    def __init__(self) -> None:
        self._open: dict[int, Backend] = {}

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
            pixels = np.ascontiguousarray(backend.read(*region))
            return {"pixels": pixels.nbytes}, pixels
        except SlideError as error:
            return {"error": error.message, "remedy": error.remedy}, None
        except MemoryError:
            return {"no_memory": True}, None
        except Exception as error:  # a fault of a library, which nobody foresaw
            return {"error": f"cannot be decoded ({type(error).__name__}: {error})", "remedy": None}, None


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
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    limit_memory(memory)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    decoders = Decoders()
    with socket.socket(fileno=handle) as connection:
        _send(connection, {"ready": True}, None)
        os.dup2(silence, 2)  # from here on; why it does not start is seen
        for line in connection.makefile("rb"):
            text, pixels = decoders.answer(json.loads(line))
            _send(connection, text, pixels)
    os._exit(0)  # without the threads of libraries


def _send(connection: socket.socket, text: dict[str, Any], pixels: Array | None) -> None:
    data = json.dumps(text).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)
    if pixels is not None:
        connection.sendall(pixels.data.cast("B"))
