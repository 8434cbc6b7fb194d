"""Output of commands: short tables, and errors without a traceback; progress bars are in :mod:`stainda.terminal`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.table import Table

from stainda.progress import duration as duration
from stainda.terminal import ConsoleProgress as ConsoleProgress
from stainda.terminal import console

errors = Console(stderr=True)
_unbounded = Console(width=10_000)  # for tables where no screen bounds a line


def silence(quiet: bool) -> bool:
    """Print nothing but errors from now on, or everything again."""
    console.quiet = _unbounded.quiet = quiet
    return quiet


Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=silence, help="Print nothing but errors.")]


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on the screen; in a pipe or a log its lines are as long as they need to be, and can be searched."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    (console if console.is_terminal else _unbounded).print(table)


def fail(message: str) -> None:
    errors.print(
        f"stainda: {message}",
        style="bold red" if sys.stderr.isatty() else "",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


class Commands(typer.core.TyperGroup):
    """The commands; Ctrl-C ends each of them with how to go on (typer itself would say no more than 'Aborted')."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            command = shlex.join(["stainda", *sys.argv[1:]])
            fail(f"interrupted; what is complete is kept. To go on: {command}")
            raise typer.Exit(130) from None
