"""Why the process of a training died, and how often a training took a whole run with it.

A leader that lives sees the death of a job's process and counts it (``retries``). Where the leader dies at the same
moment (a memory limit of a batch job or a container kills all its processes), nobody is left to count. So whoever
trains writes ``jobs/JOB/attempt.json`` before it begins and removes it however it ends. One that lies there without a
holder is a death; those in a row without a checkpoint between are counted, and at :data:`LIMIT` the training is
reported instead of begun once more.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stainda.errors import TrainingError
from stainda.files import load_json, write_json
from stainda.run_directory.contents import ATTEMPT, RESULT, RESUME_REST

LIMIT = 3
"""Deaths in a row, without a checkpoint between, after which a training is reported."""

FOR_MEMORY = "lower training.batch_size or the number of workers, or give the run more memory"
_ALLOCATIONS = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory")


def death_reason(exit_code: int | None) -> str:
    """Why a job's process ended without a word; ``exit_code`` is negative for a signal, ``None`` where unknown."""
    if exit_code is not None and exit_code < 0 and -exit_code != signal.SIGKILL:
        name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else "unknown"
        return f"the process of the job died (signal {-exit_code}, {name}), most often by a crash in a library"
    if exit_code:
        how = f"was killed (signal {-exit_code})" if exit_code < 0 else f"ended by itself (status {exit_code})"
    else:
        how = "died"
    return f"the process of the job {how}, most often for memory: {FOR_MEMORY}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: of Python, of the system, or of torch on CPU or GPU."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _ALLOCATIONS)


def what_to_do(error: BaseException) -> str:
    """What helps against an error for want of memory, as the beginning of a sentence; empty of any other."""
    return f"For memory, {FOR_MEMORY}. " if is_out_of_memory(error) else ""


def deaths(folder: Path) -> int:
    """How often in a row the process of the training in ``folder`` died where it would now go on."""
    try:
        values = load_json(ATTEMPT.inside(folder))
        return int(values["deaths"]) + 1 if values["from"] == _point(folder) else 0
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 0


def forget(folder: Path) -> None:
    """The deaths so far do not count: a leader saw them, or the process was ended on purpose."""
    ATTEMPT.inside(folder).unlink(missing_ok=True)


@contextmanager
def attempt(folder: Path) -> Iterator[None]:
    """Count an attempt at the training in ``folder`` while the block runs.

    Raises:
        TrainingError: its process died too often. The next call tries it again.
    """
    count = deaths(folder)
    if count >= LIMIT:
        forget(folder)
        raise TrainingError(
            f"{death_reason(-signal.SIGKILL)}. This happened {count} times in a row, and the run died with it",
            file=folder,
            remedy="The same command tries it again",
        )
    write_json(ATTEMPT.inside(folder), {"deaths": count, "from": _point(folder)})
    try:
        yield
    finally:
        forget(folder)


def _point(folder: Path) -> list[int]:
    """Where a training goes on: changes with every checkpoint, and when it is trained and to be scored."""
    paths = (file.inside(folder) for file in (RESUME_REST, RESULT))
    return [path.stat().st_mtime_ns if path.is_file() else 0 for path in paths]
