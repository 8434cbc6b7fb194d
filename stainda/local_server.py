"""A web server for one person on this machine: bound to 127.0.0.1, behind a token, ended by Ctrl+C."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from http.server import HTTPServer
from typing import TYPE_CHECKING

from stainda.errors import StaindaError

if TYPE_CHECKING:
    from typing_extensions import Self

ADDRESS = "127.0.0.1"


class LocalServer:
    """Answers at an address that only the command printed. A context manager: leaving it closes the port.

    Attributes:
        token: what proves that a request comes from who has the address.
        port: of 127.0.0.1.
        hosts: what a ``Host`` may say, so that a foreign name pointed here is refused (DNS rebinding).
        url: the address, which ends in the token.
    """

    def __init__(self, make: Callable[[tuple[str, int]], HTTPServer], port: int = 0, token: str | None = None) -> None:
        """
        Args:
            make: opens the server at an address and a port. port: 0 takes a free one. token: by default a new one.

        Raises:
            StaindaError: the port is taken.
        """
        self.token = token or secrets.token_urlsafe(24)
        try:
            self._server = make((ADDRESS, port))
        except (OSError, OverflowError) as error:
            raise StaindaError(
                f"port {port} cannot be used ({error})", remedy="Name another with --port, or 0 for a free one"
            ) from error
        self.port = int(self._server.server_address[1])
        self.hosts = {f"{name}:{self.port}" for name in (ADDRESS, "localhost")}
        self.url = f"http://{ADDRESS}:{self.port}/{self.token}/"

    def is_token(self, text: str) -> bool:
        """Whether ``text`` is the token, in a time that says nothing about it."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.token.encode())

    def serve(self) -> None:
        """Answer until :meth:`stop` is called or the command is interrupted."""
        self._server.serve_forever(poll_interval=0.2)

    def serve_until_interrupted(self, ready: Callable[[str], None]) -> None:
        """Answer until Ctrl+C; ``ready`` receives the address."""
        ready(self.url)
        try:
            self.serve()
        except KeyboardInterrupt:
            return

    def stop(self) -> None:
        self._server.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()
