"""A reader in a child process with limits, so that a crash, a hang or its memory is counted and the fuzz goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from ctypes import c_longlong
from pathlib import Path
from typing import Any

from hostile_files import Case, changed, changes
from hypothesis import HealthCheck, Phase, given, seed, settings

from stainda.errors import StaindaError

MEMORY = 1 << 30
"""Bytes that reading may add to the process, which begins with what the one that started it has in memory."""
SILENT_SECONDS = 120
"""Wall-clock seconds after which a child that does nothing is killed; the machine may be shared."""
AT, READ, REFUSED = range(3)
_FULL = 75
"""Exit status of a child that has used too much memory once, and would say so of every file after it."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_RUNNING = {"os.system", "os.exec", "os.posix_spawn", "os.startfile", "subprocess.Popen", "socket.connect"}


def read_batch(case: Case, examples: int, number: int, folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Read so many changed files; yields ``(kind, what, data)`` of those that are not answered as they should be.

    The last one yielded is ``("counts", "READ REFUSED", b"")``.
    """
    context = multiprocessing.get_context("fork")
    counts = context.RawArray(c_longlong, 3)
    events, start = folder / "events", 0
    while True:
        given_place = Path(tempfile.mkdtemp(dir=folder))
        child = context.Process(target=_read_all, args=(case, examples, number, start, given_place, counts, events))
        child.start()
        ended = _wait(child, counts)
        for line in events.read_text().splitlines() if events.is_file() else ():
            kind, what, data = json.loads(line)
            yield kind, what, bytes.fromhex(data)
        events.unlink(missing_ok=True)
        if ended == "":
            break
        if ended == "exit":  # not by what is read: that is answered
            raise AssertionError((given_place / "printed").read_text())
        if ended != "full":
            data = Path((given_place / "path").read_text()).read_bytes()
            yield ("slow" if ended in ("SIGXCPU", "hang") else "died"), ended, data
        start = counts[AT]
        if start >= examples:
            break
    yield "counts", f"{counts[READ]} {counts[REFUSED]}", b""


def _wait(child: Any, counts: Any) -> str:
    """How a child ended: empty where it came to its end."""
    at, since = -1, time.monotonic()
    while child.is_alive():
        child.join(0.5)
        if counts[AT] != at:
            at, since = counts[AT], time.monotonic()
        elif time.monotonic() - since > SILENT_SECONDS:
            child.kill()
            child.join()
            return "hang"
    if child.exitcode == _FULL:
        return "full"
    return "" if child.exitcode == 0 else signal.Signals(-child.exitcode).name if child.exitcode < 0 else "exit"


def _read_all(case: Case, examples: int, number: int, start: int, place: Path, counts: Any, events: Path) -> None:
    folder = place / "in" / "side"
    folder.mkdir(parents=True)
    path = case.make(folder)
    good, places = path.read_bytes(), case.places(path) if case.places else None
    (place / "path").write_text(str(path))
    silence = os.open(place / "printed", os.O_CREAT | os.O_WRONLY)
    os.dup2(silence, 1), os.dup2(silence, 2)
    os.chdir(folder)
    warnings.simplefilter("ignore")
    os.environ["STAINDA_DECODE_HERE"] = "1"  # in this child, whose ends are counted
    if not case.refused:
        case.read(path)  # also: what it imports takes no example's time
    at_first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 3 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    allowed = tuple(str(folder / name) for name in case.writes)
    listing, written, index = _listing(place, allowed), [], 0
    sys.addaudithook(watch(place, written))
    stream = events.open("a")

    def say(kind: str, what: str, data: bytes) -> None:
        stream.write(json.dumps([kind, what, data[:4096].hex()]) + "\n")
        stream.flush()

    def answered(data: bytes) -> int | None:
        try:
            case.read(path)
            return READ
        except StaindaError:
            return REFUSED
        except Exception as error:
            say("memory" if isinstance(error, MemoryError) else "traceback", raised(error), data)
            return None

    @seed(number)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(changes(case.tokens))
    def read(edits: list[tuple[str, float, bytes]]) -> None:
        nonlocal index
        index += 1
        if index <= start or index > examples:  # read by an earlier child
            return
        counts[AT] = index
        data = changed(good, edits, places)
        path.write_bytes(data)
        written.clear()
        began = time.process_time()
        _limit_time(case.seconds)
        answer = answered(data)
        if answer is not None:
            counts[answer] += 1
        if time.process_time() - began > case.seconds:
            say("slow", f"{time.process_time() - began:.0f} s", data)
        if written or _listing(place, allowed) != listing:
            say("wrote", str(written[:1] or sorted(_listing(place, allowed) ^ listing)[:1]), data)
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > at_first + MEMORY:
            say("memory", "resident", data)
            stream.close()
            os._exit(_FULL)

    read()
    counts[AT] = examples
    stream.close()
    os._exit(0)  # without the threads of libraries


def raised(error: Exception) -> str:
    """The kind of an error, and the last line of stainda that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = ([frame for frame in frames if "/stainda/" in frame.filename] or frames)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}"


def _limit_time(seconds: float) -> None:
    """From now on; a reader that computes for much too long is ended by the system."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + 2 * seconds), hard))


def watch(place: Path, written: list[str]) -> Callable[[str, tuple[Any, ...]], None]:
    """Notes what Python code changes outside the folder, runs or connects to."""

    place = place.resolve()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _RUNNING:
            written.append(f"{event} {arguments[:2]}")
        elif event in _CHANGING or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            target = arguments[0]
            inside = isinstance(target, int) or (Path.cwd() / os.fsdecode(target)).resolve().is_relative_to(place)
            if not inside:
                written.append(f"{event} {os.fsdecode(target)}")

    return hook


def _listing(folder: Path, allowed: tuple[str, ...]) -> set[str]:
    return {str(path) for path in folder.rglob("*") if not str(path).startswith(allowed or "\0")}
