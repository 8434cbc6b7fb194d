"""Review of propagated annotations by a pathologist: a local web server and its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.review.server import ReviewServer, serve_review

__all__ = ["ReviewServer", "serve_review"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("stainda.review.server"), name)
