"""optuna-dashboard on the search of a run: to look at, on this machine, for who has the address.

The dashboard itself asks nobody who they are, and its page renames and deletes studies. So it is wrapped:

- It listens on 127.0.0.1 and answers only a ``Host`` of this machine (DNS rebinding).
- The address that the command prints has a token that is new each time. Its first request sets a cookie, since the page
  asks for fixed paths (``/api``, ``/static``) behind which no token fits. Cookies do not know ports: another server of
  this machine that the same browser visits receives it as well.
- Requests that change something are refused, and SQLite is opened for reading. The run's search stays as it is.
"""

from __future__ import annotations

import socketserver
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from stainda.errors import MissingDependencyError, StaindaError
from stainda.local_server import LocalServer
from stainda.run_directory.contents import STORAGE
from stainda.run_directory.folder import read_study
from stainda.study.storage import JOURNAL, open_storage, sqlite_address, storage_address, storage_errors

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

COOKIE = "stainda_dashboard"
SAFE_METHODS = ("GET", "HEAD")


class DashboardServer(LocalServer):
    """Serves the search of one run."""

    def __init__(self, run: str | Path, *, port: int = 0, token: str | None = None) -> None:
        """
        Args:
            run: a run directory. port, token: as of :class:`LocalServer`.

        Raises:
            MissingDependencyError: optuna-dashboard is not installed.
            StaindaError: ``run`` has no search, its storage does not answer, or the port is taken.
        """
        self._app = GuardedApp(_dashboard(search_storage(Path(run))), self)
        super().__init__(self._opened, port, token)

    def _opened(self, place: tuple[str, int]) -> WSGIServer:
        server = _ThreadingServer(place, _QuietHandler)
        server.set_app(self._app)
        return server


def serve_dashboard(run: str | Path, *, port: int = 0, ready: Callable[[str], None]) -> None:
    """Serve the search of a run until the command is interrupted; ``ready`` receives its address."""
    with DashboardServer(run, port=port) as server:
        server.serve_until_interrupted(ready)


class GuardedApp:
    """Lets requests through to an application that have the token, name this machine and only read.

    Args:
        app: what is guarded. server: whose token and hosts hold.
    """

    def __init__(self, app: WSGIApplication, server: LocalServer) -> None:
        self._app, self._server = app, server

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ.get("HTTP_HOST", "") not in self._server.hosts:
            return _refuse(start, HTTPStatus.MISDIRECTED_REQUEST, "this address is not served here")
        if environ["REQUEST_METHOD"] not in SAFE_METHODS:
            return _refuse(start, HTTPStatus.METHOD_NOT_ALLOWED, "the search of a run can be looked at, not changed")
        if self._server.is_token(environ.get("PATH_INFO", "").strip("/")):
            cookie = f"{COOKIE}={self._server.token}; Path=/; HttpOnly; SameSite=Strict"
            start(_line(HTTPStatus.FOUND), [("Location", "/dashboard"), ("Set-Cookie", cookie), *_HEADERS])
            return [b""]
        if not self._server.is_token(_cookie(environ)):
            return _refuse(start, HTTPStatus.FORBIDDEN, "open the address that 'stainda dashboard' printed")
        return self._app(environ, start)


def search_storage(run: Path) -> Any:
    """The storage of a run's search as an Optuna storage; SQLite for reading only.

    Raises:
        StaindaError: there is none, or it does not answer.
    """
    config = read_study(run)
    if config.protocol.rotates:
        remedy = "Give the folder of one of its rotations, below rotations/"
        raise StaindaError("each rotation of this study has a search of its own", file=run, remedy=remedy)
    import optuna

    address = storage_address(config, run)
    path = Path(address.removeprefix(JOURNAL)) if address.startswith(JOURNAL) else STORAGE.at(run)
    if (address.startswith((JOURNAL, "sqlite:"))) and not path.is_file():
        raise StaindaError("this run has no search yet", file=path, remedy="It is there once the first training ended")
    if address.startswith("sqlite:"):
        address = sqlite_address(path, read_only=True)
    with storage_errors(address):
        return optuna.storages.get_storage(open_storage(address))


def _dashboard(storage: Any) -> WSGIApplication:
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise MissingDependencyError(
            f"the dashboard needs optuna-dashboard ({error})", remedy="pip install 'stainda[dashboard]'"
        ) from error
    return wsgi(storage)


_HEADERS = [
    ("Content-Type", "text/plain; charset=utf-8"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
]  # fmt: skip


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"


def _refuse(start: StartResponse, status: HTTPStatus, reason: str) -> Iterable[bytes]:
    start(_line(status), list(_HEADERS))
    return [f"{reason}\n".encode()]


def _cookie(environ: WSGIEnvironment) -> str:
    try:
        cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value


class _ThreadingServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    timeout = 60  # of a connection on which nothing comes

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line per request would hide the address."""
