"""Slides whose decoder has a fault, by their names: ``SIGSEGV opened.tif``, ``hang read.tif``.

``armed``: read after :func:`arm`.

The process that reads slides is another one, so what it decodes with is changed by a ``sitecustomize`` on PYTHONPATH,
which every Python that a test starts imports.
"""

from __future__ import annotations

import os
from pathlib import Path

SOUND = 1_000_000_000
"""Time of change, seconds since 1970, of a file whose decoder has no fault whatever its name."""

HOOK = """
import os, signal, sys, time
from pathlib import Path

def fail(fault):
    if fault == "exit":
        os._exit(3)
    elif fault == "hang":
        while True:
            time.sleep(1)
    elif fault == "memory":
        taken = []
        while True:
            taken.append(bytearray(1 << 28))
    os.kill(os.getpid(), getattr(signal, fault))

def install(module):
    opening, broken = module.open_backend, []

    def open_backend(path):
        fault, _, when = path.stem.partition(" ")
        when = when if path.stat().st_mtime != SOUND else ""
        if broken:
            fail("SIGSEGV")  # whatever is done after it
        if fault == "late":
            broken.append(path)
        elif when == "opened":
            note(path)
            fail(fault)
        backend = opening(path)
        if when == "read":
            def read(*region):
                note(path)
                fail(fault)
            if fault != "late":
                backend.read = read
        elif when == "armed":
            whole = backend.read
            def read(*region):
                if Path(__file__).with_name("armed").exists():
                    note(path)
                    fail(fault)
                return whole(*region)
            backend.read = read
        return backend

    module.open_backend = open_backend

def note(path):
    with Path(__file__).with_name(f"{path.stem}.tries").open("a") as stream:
        stream.write("x")

if any("stainda.slides.reading_process" in word for word in sys.orig_argv):
    import stainda.slides.decoding
    install(stainda.slides.decoding)
"""


def with_faults(monkeypatch, folder: Path):
    """Let the decoders have faults in what is started from now on; a function that says how often one was tried."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"SOUND = {SOUND}\n{HOOK}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))

    def tries(path: Path) -> int:
        noted = folder / f"{path.stem}.tries"
        return len(noted.read_text()) if noted.is_file() else 0

    return tries


def arm(folder: Path) -> None:
    """Let the decoders of slides whose name ends in ``armed`` have their faults from now on."""
    (folder / "armed").touch()
