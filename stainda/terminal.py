"""Progress on a terminal: bars with an estimate of the time left, and plain lines in logs and pipes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from stainda.progress import duration, seconds_left

console = Console()
"""Standard output."""


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task, self._earlier = progress, task, 0.0

    def advance(self, steps: float = 1.0, note: str | None = None, *, earlier: bool = False) -> None:
        self._progress.advance(self._task, steps)
        if note is not None:
            self._progress.update(self._task, note=note)
        if earlier:
            self._earlier += steps
            self._progress.update(self._task, earlier=self._earlier)


class _TimeLeft(ProgressColumn):
    """The time left as ``h:mm:ss``, from the steps of this call alone."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = seconds_left(task.completed, task.total or 0.0, task.elapsed or 0.0, task.fields["earlier"])
        if left is None:
            return Text("-:--:--", style="progress.remaining")
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        return Text(f"{hours}:{minutes:02d}:{seconds:02d}", style="progress.remaining")


LINE_SECONDS = 25.0
"""A log gets a line of a task at least so often, also while nothing of it is completed."""


class _Line:
    """A bar for logs and pipes: a line at each quarter, and at least every half minute, with how long it will take."""

    def __init__(self, description: str, total: float) -> None:
        self.description, self.total, self.done, self._quarter, self._note = description, total, 0.0, 0, ""
        self._earlier = 0.0
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._started = self._told = time.monotonic()

    def __enter__(self) -> _Line:
        threading.Thread(target=self._tell_on, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    def advance(self, steps: float = 1.0, note: str | None = None, *, earlier: bool = False) -> None:
        with self._lock:
            self.done += steps
            self._earlier += steps if earlier else 0.0
            self._note = self._note if note is None else note
            quarter = int(4 * self.done / self.total) if self.total else 4
            if quarter > self._quarter:
                self._quarter = quarter
                self._tell()

    def _tell_on(self) -> None:
        while not self._ended.wait(max(0.01, LINE_SECONDS - (time.monotonic() - self._told))):
            with self._lock:
                if time.monotonic() - self._told >= LINE_SECONDS and not self._ended.is_set():
                    self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        share = min(1.0, self.done / self.total) if self.total else 1.0
        spent = now - self._started
        left = seconds_left(self.done, self.total, spent, self._earlier)
        left_text = f"{duration(spent)} so far" if left is None else f"about {duration(left)} left" if share < 1 else ""
        rest = ", ".join(filter(None, (f"{100 * share:.0f} %", left_text, self._note if share < 1 else "")))
        print(f"{self.description}: {rest}", flush=True)
        self._told = now


class _Nothing:
    """The bar of ``--quiet``."""

    def advance(self, steps: float = 1.0, note: str | None = None, *, earlier: bool = False) -> None:
        pass


class ConsoleProgress:
    """Progress on a terminal as bars, elsewhere as a few plain lines.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextlib.contextmanager
    def task(self, description: str, total: float) -> Iterator[_Bar | _Line | _Nothing]:
        if self.quiet:
            yield _Nothing()
            return
        if not console.is_terminal:
            with _Line(description, total) as line:
                yield line
            return
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            _TimeLeft(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as progress:
            yield _Bar(progress, progress.add_task(description, total=total, note="", earlier=0.0))

    def message(self, text: str) -> None:
        if not self.quiet:
            console.print(text, highlight=False, markup=False, soft_wrap=True)
