"""Who trains what, and who leads: claims on trainings and on a run directory, as files that several machines see.

The first claim on a training is the file ``KEY.1``, created exclusively. Its holder rewrites it every few seconds. A
claim that an observer has not seen change for ``silent`` seconds *of the observer's own clock* is given up, and the
next is ``KEY.2``, again created exclusively: of several observers one gets it, and no file is ever taken from another.
Clocks of the machines are never compared. A holder that is gone from the observer's own machine is noticed at once. A
holder that was only slow finds the higher number when it next rewrites its own file, and ends.

Exclusive creation (``O_EXCL``) is atomic on local file systems, NFS 3 and later, Lustre, GPFS and CephFS.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from stainda.errors import StaindaError
from stainda.files import output_errors, write_text

EVERY_SECONDS, SILENT_SECONDS = 3.0, 90.0
"""How often a claim is renewed, and how long one that is not is waited for: network file systems show a change to other
machines after up to 60 seconds."""


@dataclass(frozen=True)
class Holder:
    """A process on a machine; ``machine`` is empty where it cannot be distinguished."""

    machine: str
    pid: int
    born: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def here(cls) -> Holder:
        return cls(_machine(), os.getpid(), _born(os.getpid()))

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended: only this machine's own can be."""
        return self.is_here and bool(self.born) and _born(self.pid) != self.born

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def host(self) -> str:
        return self.machine.partition("/")[0] or "another machine"


@cache
def _machine() -> str:
    """Machine, start of its system and group of processes: within one, a process number means one process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process of this machine started, in ticks since the system did; empty where there is none."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if values[0] in "ZX" else values[19]  # a process that has ended and was not yet waited for is gone


@dataclass
class _Seen:
    text: str
    since: float


@dataclass(frozen=True)
class GivenUp:
    """A claim that has been silent for too long: its number, and all that its file says."""

    number: int
    text: str


class Claims:
    """Claims in a folder, as one process sees them.

    Args:
        folder: where the claims lie. every, silent: see :data:`EVERY_SECONDS`.
        now: seconds of this process's own clock.
    """

    def __init__(
        self,
        folder: Path,
        every: float = EVERY_SECONDS,
        silent: float = SILENT_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.every, self.silent, self._now = folder, every, silent, now
        self._seen: dict[Path, _Seen] = {}

    def last(self, key: str) -> int:
        """The number of the latest claim on a training; 0: there is none."""
        return max((number for number, _ in self._of(key)), default=0)

    def latest(self, key: str) -> tuple[Holder | None, str]:
        """Who has the latest claim, where that can be read, and all that its file says, which changes with every sign
        that the holder gives; empty: there is none."""
        try:
            text = self._path(key, self.last(key)).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None, ""
        return _holder(text), text

    def is_free(self, key: str) -> bool:
        """Whether a training can be claimed: nobody has, or who did has given no sign for too long."""
        return self.last(key) == 0 or self.given_up(key) is not None

    def given_up(self, key: str) -> GivenUp | None:
        """The latest claim on a training, if its holder has given no sign for too long."""
        number = self.last(key)
        path = self._path(key, number)
        return GivenUp(number, self._seen[path].text) if number and self._is_given_up(path) else None

    def take(self, key: str, given_up: GivenUp | None = None) -> Claim | None:
        """Claim a training; ``None`` where another one has it.

        Args:
            given_up: a claim that another process has seen silent for long enough.
        """
        number = self.last(key)
        earlier = self._path(key, number)
        silent = given_up.text if given_up is not None and given_up.number == number else None
        if number and not self._is_given_up(earlier, silent):
            return None
        path, holder = self._path(key, number + 1), Holder.here()
        with output_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                return None
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(_text(holder, 0))
        if number and not self._is_given_up(earlier, silent):  # released and claimed anew since it was looked at
            path.unlink(missing_ok=True)
            return None
        claim = Claim(self, key, number + 1, holder)
        return claim if claim.is_held() else None

    def remove(self, key: str, until: int | None = None) -> None:
        """Remove the claims on a training, up to a number."""
        for number, path in list(self._of(key)):
            if until is None or number <= until:
                path.unlink(missing_ok=True)
                self._seen.pop(path, None)

    def remove_gone(self) -> None:
        """Remove the claims of processes that are known to have ended, so that other machines need not wait."""
        for path in self.folder.glob("*.*"):
            with contextlib.suppress(FileNotFoundError):
                holder = _holder(path.read_text(encoding="utf-8"))
                if holder is not None and holder.is_gone:
                    path.unlink()

    def _is_given_up(self, path: Path, silent: str | None = None) -> bool:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            return False  # released this moment, or a network that comes back: free when it is next looked at
        if text == silent:
            return True
        seen = self._seen.get(path)
        if seen is None or seen.text != text:
            self._seen[path] = seen = _Seen(text, self._now())
        holder = _holder(text)
        return (holder is not None and holder.is_gone) or self._now() - seen.since > self.silent

    def _of(self, key: str) -> Iterator[tuple[int, Path]]:
        for path in self.folder.glob(f"{key}.*"):
            number = path.name.rpartition(".")[2]
            if number.isdecimal():
                yield int(number), path

    def _path(self, key: str, number: int) -> Path:
        return self.folder / f"{key}.{number}"


@dataclass
class Claim:
    """A claim that this process holds."""

    claims: Claims
    key: str
    number: int
    holder: Holder
    beat: int = 0
    lasts: bool = False

    @property
    def path(self) -> Path:
        return self.claims.folder / f"{self.key}.{self.number}"

    def is_held(self) -> bool:
        """Whether it still is this process's."""
        try:
            holder = _holder(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        return holder is not None and holder.token == self.holder.token and self.claims.last(self.key) == self.number

    def lasting(self) -> Claim:
        """The same, written again where its file is lost and nobody has a later one: for what nobody else ends."""
        self.lasts = True
        return self

    def renew(self) -> bool:
        """Show that the holder is alive; whether the claim still is its own."""
        if not self.is_held() and not (self.lasts and self.claims.last(self.key) == 0):
            return False
        self.beat += 1
        write_text(self.path, _text(self.holder, self.beat))
        return True

    def release(self) -> None:
        if self.is_held():
            self.claims.remove(self.key, self.number)

    @contextlib.contextmanager
    def kept(self, lost: Callable[[], None]) -> Iterator[None]:
        """Renew the claim while the block runs, then release it; ``lost`` is called where another one has it."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(self.claims.every):
                try:
                    if not self.renew() and not ended.is_set():
                        lost()
                        return
                except (OSError, StaindaError):  # a full disk, a network that comes back: others wait `silent` seconds
                    continue

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.release()


def _text(holder: Holder, beat: int) -> str:
    return json.dumps({**asdict(holder), "beat": beat}) + "\n"


def _holder(text: str) -> Holder | None:
    """``None`` of a file that is not written yet."""
    try:
        values = json.loads(text)
        return Holder(str(values["machine"]), int(values["pid"]), str(values["born"]), str(values["token"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
