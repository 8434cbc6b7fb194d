"""Local web server of the review page: on this machine only, for one reviewer.

Other pages in the same browser can send requests to any local port, so three things are asked of each: the token in
its path, which only the address printed by the command holds; a ``Host`` that names this machine, so that a foreign
name pointed here is refused (DNS rebinding); and, of a decision, the page's own ``Origin`` and JSON. Files are never
named by a request: pages come from a fixed list, tiles by numbers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stainda.errors import StaindaError
from stainda.local_server import LocalServer
from stainda.review.api import Refused, ReviewApi
from stainda.review.data import ReviewData
from stainda.review.tiles import Tiles

logger = logging.getLogger(__name__)

MAX_BODY = 1 << 20
STATIC = Path(__file__).parent / "static"
PAGES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "openseadragon.min.js": ("openseadragon.min.js", "text/javascript; charset=utf-8"),
    **{
        name: (name, "text/javascript; charset=utf-8")
        for name in ("main.js", "frames.js", "panes.js", "list.js", "server.js", "marks.js")
    },
}
OPENSEADRAGON_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
"""The one rule that OpenSeadragon 6.1.1 writes into the page; nothing else may."""
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src 'self' {OPENSEADRAGON_STYLE}; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ReviewServer(LocalServer):
    """Serves the page of one run. Leaving it closes the slides too.

    Attributes:
        api: what answers the page. tiles: pictures of the slides.
    """

    def __init__(
        self,
        run: str | Path,
        reviewer: str,
        *,
        port: int = 0,
        block: str | None = None,
        show_own: bool = False,
        token: str | None = None,
    ) -> None:
        """
        Args:
            run: a run directory with propagated annotations.
            reviewer: who decides; written next to every decision.
            block: only this one.
            show_own: show the targets' own annotations, against which the study is scored.
            port, token: as of :class:`LocalServer`.

        Raises:
            StaindaError: there is nothing to review in ``run``, or the port is taken.
        """
        self.api = ReviewApi(ReviewData(run, block, show_own), reviewer)
        self.tiles = Tiles(self.api.sources)
        super().__init__(self._opened, port, token)

    def _opened(self, place: tuple[str, int]) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(place, _Handler)
        server.daemon_threads = True
        server.review = self  # type: ignore[attr-defined]
        return server

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.tiles.close()


def serve_review(
    run: str | Path,
    reviewer: str,
    *,
    port: int = 0,
    block: str | None = None,
    show_own: bool = False,
    ready: Callable[[str], None],
) -> None:
    """Serve the page of a run until the command is interrupted; ``ready`` receives its address."""
    with ReviewServer(run, reviewer, port=port, block=block, show_own=show_own) as server:
        server.serve_until_interrupted(ready)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "stainda"
    sys_version = ""
    timeout = 60  # of a connection on which nothing comes

    @property
    def review(self) -> ReviewServer:
        return self.server.review  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, work: Callable[[list[str]], None]) -> None:
        try:
            work(self._path())
        except Refused as error:
            self._send_json({"error": error.message}, error.status)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True
        except StaindaError as error:
            logger.warning("review: %s", error)
            self._send_json({"error": error.message}, HTTPStatus.INTERNAL_SERVER_ERROR)
        except Exception:
            logger.exception("review: %s", self.path[:200])
            self._send_json({"error": "this was not foreseen; see the terminal"}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _path(self) -> list[str]:
        """The parts of the path behind the token, once the request may come in."""
        if self.headers.get("Host", "") not in self.review.hosts:
            self.close_connection = True
            raise Refused("this address is not served here", HTTPStatus.MISDIRECTED_REQUEST)
        token, *parts = urlsplit(self.path).path.removeprefix("/").split("/")
        if not self.review.is_token(token) or not parts:
            self.close_connection = True
            raise Refused("open the address that 'stainda review' printed", HTTPStatus.FORBIDDEN)
        return parts

    def _get(self, parts: list[str]) -> None:
        match parts:
            case [name] if name in PAGES:
                file, kind = PAGES[name]
                self._send((STATIC / file).read_bytes(), kind)
            case ["tiles", slide, level, name] if name.endswith(".jpg"):
                column, _, row = name.removesuffix(".jpg").partition("_")
                data = self.review.tiles.tile(*(_whole(text) for text in (slide, level, column, row)))
                if data is None:
                    raise Refused("no such tile", HTTPStatus.NOT_FOUND)
                self._send(data, "image/jpeg", cache="private, max-age=3600")
            case ["api", "overview"]:
                self._send_json(self.review.api.overview())
            case ["api", "decisions"]:
                self._send_json(self.review.api.decisions())
            case ["api", "blocks", name]:
                self._send_json(self.review.api.block(unquote(name)))
            case _:
                raise Refused("there is nothing here", HTTPStatus.NOT_FOUND)

    def _post(self, parts: list[str]) -> None:
        self.close_connection = True  # until the body is read, the connection holds what is not understood
        if parts != ["api", "decisions"]:
            raise Refused("there is nothing here", HTTPStatus.NOT_FOUND)
        origin = self.headers.get("Origin")
        if origin is None or origin.removeprefix("http://") not in self.review.hosts:
            raise Refused("decisions are made on the page itself", HTTPStatus.FORBIDDEN)
        if self.headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
            raise Refused("a decision is sent as application/json", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdigit()):
            raise Refused("a decision is sent with its length", HTTPStatus.LENGTH_REQUIRED)
        if len(length) > 9 or int(length) > MAX_BODY:
            raise Refused("the request is too large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = self.rfile.read(int(length))
        self.close_connection = False
        self._send_json(self.review.api.decide(_json(body)))

    def _send_json(self, value: object, status: int = 200) -> None:
        self._send(json.dumps(value, allow_nan=False, separators=(",", ":")).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: int = 200, cache: str = "no-store") -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", cache)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise Refused("no such tile", HTTPStatus.NOT_FOUND)
    return int(text)


def _json(body: bytes) -> object:
    def refuse(word: str) -> None:
        raise Refused(f"{word} is no number")

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Refused("the request is no JSON") from error
