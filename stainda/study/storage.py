"""Where Optuna's trials are stored: SQLite on one machine, a journal file on a network file system, or a server.

The run directory's own files remain the truth: trials enter the storage when they have ended, and a storage that is
lost is filled again from the trainings that are complete. Only the leader of a run opens it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from stainda.config import StudyConfig
from stainda.errors import ConfigError, MissingDependencyError, StaindaError
from stainda.run_directory.contents import STORAGE

JOURNAL = "journal:"
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_WITHOUT = "Write it to ~/.pgpass (PostgreSQL) or ~/.my.cnf (MySQL), which only you may read"
_KEEP_OUT = "Write it to ~/.pgpass (PostgreSQL) or ~/.my.cnf (MySQL): study.yaml in the run directory is no secret"


def sqlite_address(path: Path, *, read_only: bool = False) -> str:
    """The address of an SQLite file, whatever its path has in it."""
    from sqlalchemy import URL

    full = str(path.resolve())
    if "?" not in full and not read_only:
        return URL.create("sqlite", database=full).render_as_string()
    options = {"mode": "ro", "uri": "true"} if read_only else {"uri": "true"}
    # a URI, since a ? would begin the options of a plain path (SQLAlchemy 2.0 does not quote it)
    return URL.create("sqlite", database=f"file:{quote(full)}", query=options).render_as_string()


def storage_address(config: StudyConfig, root: Path) -> str:
    """The storage of a study in the run directory ``root``.

    Raises:
        ConfigError: it has a password in it, or is a file elsewhere.
    """
    address = config.search.storage
    if not address:
        return sqlite_address(STORAGE.at(root))
    if address.startswith(JOURNAL):
        path = (root.resolve() / address.removeprefix(JOURNAL)).resolve()
        if not path.is_relative_to(root.resolve()) or path == root.resolve():
            raise ConfigError(
                f"search.storage {address!r} is no file below the run directory, where alone a study writes",
                remedy=f"Give a name: {JOURNAL}trials.log",
            )
        return f"{JOURNAL}{path}"
    if address.partition(":")[0].partition("+")[0] == "sqlite":
        raise ConfigError(
            "search.storage names an SQLite file; a study writes into its run directory alone",
            remedy=f"Leave search.storage empty: {STORAGE.name} there is SQLite",
        )
    if urlsplit(address).password:
        raise ConfigError("search.storage has a password in it", remedy=_KEEP_OUT)
    scheme, colon, rest = address.partition(":")
    return f"{_DRIVERS.get(scheme, scheme)}{colon}{rest}"


@contextmanager
def storage_errors(address: str) -> Iterator[None]:
    """Say which storage does not answer, or which package is missing, instead of what a library makes of it."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"the storage {address} needs a package that is missing ({error})",
            remedy="pip install 'stainda[cluster]' for PostgreSQL, pymysql for MySQL",
        ) from error
    except (SQLAlchemyError, StorageInternalError, OSError) as error:
        cause = error.__cause__ or error if isinstance(error, StorageInternalError) else error
        said = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise StaindaError(
            f"the storage {address} does not answer ({said})",
            remedy=(_WITHOUT if "password" in said else "Start it, or mend search.storage")
            + "; what is trained is kept, and the same command goes on",
        ) from error


def open_storage(address: str) -> Any:
    """What Optuna takes as a storage.

    Raises:
        StaindaError: it does not answer, or its driver is missing.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    with storage_errors(address):
        if address.startswith(JOURNAL):
            path = Path(address.removeprefix(JOURNAL))
            path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_other_file(path)
            lock = JournalFileOpenLock(str(path))
            return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        if address.startswith("sqlite:"):
            return address
        return optuna.storages.RDBStorage(address, engine_kwargs={"pool_pre_ping": True})  # a server may have restarted


def _refuse_other_file(path: Path) -> None:
    """Optuna appends to whatever there is."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as stream:
        if b'"op_code"' not in stream.readline(10_000):
            raise StaindaError("this is no journal of Optuna", file=path, remedy="Name another file in search.storage")


def check_storage(config: StudyConfig, root: Path) -> None:
    """Refuse a server of trials that does not answer; files of the run directory need none.

    Raises:
        StaindaError: it does not answer, or its driver is missing. ConfigError: its address has a password in it.
    """
    address = storage_address(config, root)
    if config.search.storage and not config.search.storage.startswith(JOURNAL):
        storage = open_storage(address)
        if not isinstance(storage, str):
            storage.engine.dispose()
