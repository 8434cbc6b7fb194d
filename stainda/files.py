"""Files that appear whole or not at all, and names derived from content."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from stainda.errors import StaindaError, UnexpectedError

ASIDE = ".stainda-"
"""Names of files that are being written start with this."""

RECENT = 2 * 10**9
"""Nanoseconds after a change within which a file system's clock may not tell another one; FAT counts in two seconds."""

Value = TypeVar("Value")


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path next to ``path`` to write to; it takes the name ``path`` only when the block ends without error.

    A reader therefore never sees half a file, also after SIGKILL.
    """
    path = Path(path)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f"{ASIDE}{path.stem[:40]}-", suffix=path.suffix)
        os.close(handle)
    try:
        yield Path(aside)
        umask = os.umask(0)
        os.umask(umask)
        Path(aside).chmod(0o666 & ~umask)
        Path(aside).replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(aside).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise _refused(error, path) from error
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process was writing below ``folder``; call it only while nobody else writes there."""
    for path in folder.rglob(f"{ASIDE}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def output_errors(path: str | Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise _refused(error, path) from error


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}


def says_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is of a disk that takes no more."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _refused(error: OSError, path: str | Path) -> StaindaError:
    said = f"cannot write here ({error.strerror or error})"
    if error.errno in _FULL:
        return UnexpectedError(said, file=path, remedy="Make room there; what is complete is kept")
    return StaindaError(said, file=path, remedy="Choose a writable place with --out")


def exists_unseen(path: Path) -> bool:
    """Whether a file is there that this machine does not see yet.

    Clients of network file systems remember for up to a minute that a file is missing. To create it is what only the
    server can answer, so that is tried. A process that is killed at this leaves an empty file.
    """
    if path.exists():
        return False
    with output_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:  # the file, or its folder
            return True
        path.unlink(missing_ok=True)
    return False


def link_or_copy(source: Path, target: Path, link: bool = True) -> None:
    """Have a file at another place too: a hard link where that can be, else a copy. Files that are written whole may be
    linked: who writes one anew leaves the other as it was."""
    with whole_file(target) as aside:
        if link:
            try:
                aside.unlink()
                aside.hardlink_to(source)
                return
            except OSError:  # another file system, or one without hard links
                pass
        shutil.copy2(source, aside)


def write_text(path: str | Path, text: str) -> Path:
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return Path(path)


def load_json(path: Path) -> Any:
    """A JSON document of stainda's own, UTF-8.

    Raises:
        ValueError: not UTF-8, not JSON, or nested deeper than can be read. OSError: it cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_json(path: str | Path, value: object) -> Path:
    return write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Path:
    """Write rows as CSV; ``None`` is an empty cell, a key outside ``columns`` an error."""
    with whole_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(columns))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return Path(path)


PIECES, PIECE = 16, 65536  # of a file, bytes: a slide of some GB is not read as a whole to see whether it changed


def read_once(compute: Callable[[Path], Value]) -> Callable[[Path], Value]:
    """Keep what is computed from a file for as long as its size and time of change stay.

    A file that was changed within :data:`RECENT` is read again: a second change of the same size within one tick of the
    file system's clock would not be seen.
    """
    kept: dict[tuple[Path, int, int], Value] = {}

    @wraps(compute)
    def reading(path: Path) -> Value:
        state = path.stat()
        key = (path, state.st_size, state.st_mtime_ns)
        if key in kept:
            return kept[key]
        value = compute(path)
        if time.time_ns() - state.st_mtime_ns > RECENT:
            kept[key] = value
        return value

    return reading


def fingerprint(path: str | Path) -> list[Any] | None:
    """What tells a changed file wherever it lies and whenever it was copied: its size and the hash of ``PIECES`` pieces
    spread over it, the first and the last included (all of it up to 1 MiB); ``None`` where it cannot be read.

    A folder of the same name next to it (MIRAX keeps its pixels there) counts with its files' names and sizes.
    """
    try:
        return list(_fingerprint(Path(path)))
    except OSError:
        return None


@read_once
def _fingerprint(path: Path) -> tuple[Any, ...]:
    """The time is no part of it: it only tells when what this process knows is out of date."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as stream:
        for piece in range(PIECES):
            stream.seek(max(0, size - PIECE) * piece // (PIECES - 1))
            digest.update(stream.read(PIECE))
    if companions := _companions(path):
        digest.update(json.dumps([(file.name, file.stat().st_size) for file in companions]).encode())
    return size, digest.hexdigest()[:16]


@read_once
def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; read once as long as it does not change."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def whole_hash(path: Path) -> str:
    """Hash of all that a slide's file holds, and of the folder of the same name next to a MIRAX slide.

    For files of one :func:`fingerprint`, which are either copies or alike in its pieces.
    """
    return stable_hash([sha256_of(path), *((file.name, sha256_of(file)) for file in _companions(path))])


def _companions(path: Path) -> list[Path]:
    """Files of the folder in which MIRAX keeps the pixels of a slide."""
    folder = path.with_suffix("")
    mirax = path.suffix.lower() == ".mrxs" and folder.is_dir()
    return sorted(file for file in folder.iterdir() if file.is_file()) if mirax else []


def stable_hash(value: object, length: int = 12) -> str:
    """Hash of a JSON-like value, the same on every machine and in every process."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
