"""Who works in a run directory: one process at a time, on whatever machine.

A lock of the system is released with its process, but not every network file system shares it with other machines
(SSHFS, NFS mounted with ``nolock``, Lustre without ``flock``). So a claim is held as well, see
:mod:`stainda.run_directory.claims`: what a process on another machine can see.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from stainda.errors import StaindaError
from stainda.files import output_errors
from stainda.run_directory.claims import Claim, Claims, Holder

KEY = ".lock"


@contextlib.contextmanager
def held(root: Path, tell: Callable[[str], None], claims: Claims | None = None) -> Iterator[None]:
    """Hold a run directory while the block runs.

    A process on another machine that was killed in it leaves its claim. Whether it still works is seen only by waiting,
    up to :data:`~stainda.run_directory.claims.SILENT_SECONDS`; ``tell`` is given a sentence about it.

    Raises:
        StaindaError: another process works here, or took the run directory over while this one stood still.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(str(root / KEY))
    with output_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise _refusal(root) from None
    try:
        if not Holder.here().machine:  # one claim could not be distinguished from another's
            yield
            return
        taken_over = threading.Event()

        def end() -> None:
            taken_over.set()
            os.kill(os.getpid(), signal.SIGINT)  # wakes the main thread, whatever it waits for

        try:
            with _interrupted_by(taken_over), _claimed(root, tell, claims or Claims(root)).kept(end):
                yield
        except KeyboardInterrupt:
            if taken_over.is_set():
                raise StaindaError(
                    "this process stood still for so long that another machine took the run directory over",
                    file=root, remedy="Let that one go on; 'stainda worker' on this machine helps it",
                ) from None  # fmt: skip
            raise
    finally:
        lock.release()


@contextlib.contextmanager
def _interrupted_by(taken_over: threading.Event) -> Iterator[None]:
    """SIGINT is a KeyboardInterrupt once ``taken_over`` is set, whatever the program around makes of that signal.

    Handlers belong to the main thread; in another one the program's own is left alone.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:  # None: not set from Python
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if taken_over.is_set():
            raise KeyboardInterrupt
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, before)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _claimed(root: Path, tell: Callable[[str], None], claims: Claims) -> Claim:
    """The claim on a run directory, after the one before it has been released or given no sign for long enough.

    Cached files may be old: what is seen to change once may have been written before its holder was killed. Twice is
    a sign of life.
    """
    signs: list[str] = []
    while (claim := claims.take(KEY)) is None:
        holder, sign = claims.latest(KEY)
        if holder is not None and holder.is_here:
            raise _refusal(root)
        if not signs and sign:
            where = f"a process on {holder.host}" if holder is not None else "another process"
            tell(f"{where} worked in {root} last; looking for up to {claims.silent:.0f} s whether it still does")
        if sign and sign not in signs:
            signs.append(sign)
        if len(signs) > 2:
            raise _refusal(root, holder)
        time.sleep(claims.every / 3)
    return claim.lasting()


def _refusal(root: Path, holder: Holder | None = None) -> StaindaError:
    where = f" on {holder.host}" if holder is not None else ""
    return StaindaError(
        f"another stainda process{where} is working in this run directory", file=root,
        remedy="Wait for it to end, or choose another place with --out",
    )  # fmt: skip
