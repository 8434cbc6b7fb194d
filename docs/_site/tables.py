"""Tables in Markdown."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a cell stays on one line, and its bars separate no columns."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code(text: str) -> str:
    """Text as code, in a cell too."""
    return f"<code>{html.escape(text, quote=False)}</code>"


def prose(text: object) -> str:
    """Text of a docstring or file: its angle brackets are no HTML, its double backticks are Markdown's."""
    return html.escape(" ".join(str(text).split()), quote=False).replace("``", "`")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
