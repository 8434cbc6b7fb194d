"""What commands show: progress bars with an estimate, short tables, errors without a traceback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console()
errors = Console(stderr=True)
_unbounded = Console(width=10_000)  # for tables where no screen bounds a line


def silence(quiet: bool) -> bool:
    """Print nothing but errors from now on, or everything again."""
    console.quiet = _unbounded.quiet = quiet
    return quiet


Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=silence, help="Print nothing but errors.")]


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: float = 1.0, note: str | None = None) -> None:
        self._progress.advance(self._task, steps)
        if note is not None:
            self._progress.update(self._task, note=note)


class _Line:
    """A bar for logs and pipes: one line at the start and one at each quarter."""

    def __init__(self, description: str, total: float) -> None:
        self.description, self.total, self.done, self.shown = description, total, 0.0, 0

    def advance(self, steps: float = 1.0, note: str | None = None) -> None:
        self.done += steps
        quarter = int(4 * self.done / self.total) if self.total else 4
        if quarter > self.shown:
            self.shown = quarter
            print(f"{self.description}: {min(100, 25 * quarter)} %", flush=True)


class ConsoleProgress:
    """Progress on a terminal as bars, elsewhere as a few plain lines."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextlib.contextmanager
    def task(self, description: str, total: float) -> Iterator[_Bar | _Line]:
        if self.quiet or not console.is_terminal:
            line = _Line(description, total if not self.quiet else 0)
            line.shown = 4 if self.quiet else 0
            yield line
            return
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as progress:
            yield _Bar(progress, progress.add_task(description, total=total, note=""))

    def message(self, text: str) -> None:
        if not self.quiet:
            console.print(text, highlight=False, markup=False, soft_wrap=True)


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
