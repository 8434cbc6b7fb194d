"""What a notebook shows: a progress bar that needs no widgets, and objects as small tables of HTML."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from stainda.progress import duration, seconds_left

UPDATE_SECONDS = 0.2
"""A bar is drawn again at most so often."""

_MOST_ROWS = 20


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, VS Code, Colab). Imports nothing."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    return getattr(running, "kernel", None) is not None


class _NotebookBar:
    def __init__(self, description: str, total: float, show: Any) -> None:
        self.description, self.total, self.done, self.note, self.state = description, total, 0.0, "", ""
        self._earlier, self._started = 0.0, time.monotonic()
        self._drawn = self._started
        self._handle = show(self, display_id=True)

    def advance(self, steps: float = 1.0, note: str | None = None, *, earlier: bool = False) -> None:
        self.done += steps
        self._earlier += steps if earlier else 0.0
        self.note = self.note if note is None else note
        if time.monotonic() - self._drawn >= UPDATE_SECONDS:
            self.draw()

    def end(self, state: str) -> None:
        self.state = state
        self.draw()

    def draw(self) -> None:
        self._drawn = time.monotonic()
        self._handle.update(self)

    @property
    def share(self) -> float:
        return 1.0 if self.state == "done" or not self.total else min(1.0, self.done / self.total)

    def __repr__(self) -> str:
        return f"{self.description}: {self.share:.0%}, {self._words()}"

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self.share:.4f}" max="1"></progress>'
        return f"<div>{escape(self.description)} {bar} {self.share:.0%} {escape(self._words())}</div>"

    def _words(self) -> str:
        spent = time.monotonic() - self._started
        if self.state:
            return f"{self.state} after {duration(spent)}"
        left = seconds_left(self.done, self.total, spent, self._earlier)
        left_text = f", about {duration(left)} left" if left else ""
        return f"{duration(spent)}{left_text} {self.note}".strip()


class NotebookProgress:
    """Progress as one line of HTML per task, in the cell that waits for it."""

    @contextlib.contextmanager
    def task(self, description: str, total: float) -> Iterator[_NotebookBar]:
        from IPython.display import display

        bar = _NotebookBar(description, total, display)
        try:
            yield bar
        except BaseException:
            bar.end("stopped")
            raise
        bar.end("done")

    def message(self, text: str) -> None:
        print(text)


def summary_html(title: str, facts: Mapping[str, object], rows: Sequence[Mapping[str, object]] = ()) -> str:
    """An object in a notebook: its title, one line per fact, and a table of which the first rows are shown.

    Args:
        facts: values by name; empty ones are not shown. rows: all with the same columns.
    """
    shown = {name: str(value) for name, value in facts.items() if value not in (None, "")}
    lines = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in shown.items()
    )
    parts = [f"<div><strong>{escape(title)}</strong>", f"<table>{lines}</table>" if lines else "", _table(rows)]
    if len(rows) > _MOST_ROWS:
        parts.append(f"<div>and {len(rows) - _MOST_ROWS} more</div>")
    return "".join([*parts, "</div>"])


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows[:_MOST_ROWS]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
