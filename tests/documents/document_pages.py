"""What the documents tell a reader to type: blocks and commands of every page, and the examples of ``--help``."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PAGES = ("README.md", "data_manifests/README.md", *sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")
))  # fmt: skip

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (stainda .*)$", re.MULTILINE)
_INLINE = re.compile(r"`(stainda [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language (or nothing), and the line of the page it begins at."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Typed:
    """A command line that a reader types, as words; ``line`` is that of the page, 0 in a help text."""

    page: str
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def blocks(page: str) -> list[Block]:
    text = _read(page)
    return [Block(page, text[: found.start()].count("\n") + 1, found[1], found[2]) for found in _FENCE.finditer(text)]


def typed(page: str, *, inline: bool = False) -> list[Typed]:
    """The lines of shell blocks and the indented commands of a page, in its order; or those within its sentences."""
    text = _read(page)
    plain = _FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
    pattern = _INLINE if inline else _INDENTED
    found = [(plain[: one.start()].count("\n") + 1, one[1]) for one in pattern.finditer(plain)]
    for block in () if inline else blocks(page):
        if block.language in ("", "bash") and re.search(r"^(stainda|python|make) ", block.text, re.MULTILINE):
            whole = re.sub(r"\\\n\s*", " ", block.text)
            found += [(block.line + number, line) for number, line in enumerate(whole.splitlines(), start=1)]
    found.sort(key=lambda one: one[0])
    words = [(line, tuple(shlex.split(command.replace("\n", " "), comments=True))) for line, command in found]
    return [Typed(page, line, one) for line, one in words if one]


def help_examples(app: Any) -> list[Typed]:
    """The examples of all help texts, in the order of the commands."""
    found = []
    for name, text in _helps(app, ""):
        examples = _INLINE.findall(text.partition("Example")[2])
        found += [Typed(f"stainda {name} --help", 0, tuple(shlex.split(example))) for example in examples]
    return found


def _helps(app: Any, above: str) -> list[tuple[str, str]]:
    found = []
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        found.append((f"{above}{name}", command.callback.__doc__ or ""))
    for group in app.registered_groups:
        found += _helps(group.typer_instance, f"{above}{group.name} ")
    return found


def _read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")
