"""What makes the files next to the page: every table as CSV, Markdown and LaTeX, every figure as SVG, PNG and CSV."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from stainda.files import write_text
from stainda.progress import Task
from stainda.report import exports
from stainda.report.drawings import Drawing, draw, write_frame
from stainda.report.figure_registry import Plot, kind, table_kind
from stainda.report.run import LoadedRun
from stainda.report.study_view import NotDrawable, StudyView
from stainda.report.summary_text import PRIMARY
from stainda.report.tables import PageTable

MOST_ROWS = 600
"""Rows of a table in the page; the files next to it have all."""


@dataclass(frozen=True)
class Absent:
    """A figure or table that cannot be made, and why."""

    title: str
    reason: str


@dataclass
class Writer:
    """Writes under ``out``; keeps the figures in ``plots``, in order, for the PDF.

    ``progress`` goes one step further with each of the ``figures`` that are to be drawn.
    """

    out: Path
    keep: bool = False
    plots: list[tuple[str, Plot]] = field(default_factory=list)
    latex: list[str] = field(default_factory=list)
    progress: Task | None = None
    figures: int = 0
    drawn: int = 0

    def table(self, table: PageTable | None) -> PageTable | None:
        """Write a table; returns what the page shows of it."""
        if table is None:
            return None
        self.frame(table.name, table.frame)
        files = exports.write_tables(table, self.out / "tables")
        self.latex += [table.name] if files else []
        table = replace(table, files=("csv", *files))
        if len(table.rows) <= MOST_ROWS:
            return table
        cut = f"The first {MOST_ROWS} of {len(table.rows)} rows; the CSV has all."
        return replace(table, rows=table.rows[:MOST_ROWS], note=f"{cut} {table.note}".strip())

    def table_of(
        self, name: str, run: LoadedRun, view: StudyView | None, measure: str = PRIMARY
    ) -> PageTable | Absent | None:
        """A kind of table, or why it cannot be made; ``None`` where the study has none."""
        wanted = table_kind(name)
        try:
            return self.table(wanted.make(run, view, measure))
        except NotDrawable as lacking:
            return Absent(wanted.title, lacking.message)

    def figure(self, view: StudyView, name: str, measure: str = PRIMARY) -> Drawing | Absent:
        """Draw a kind of figure, or say why it cannot be drawn."""
        self.drawn += 1
        if self.progress is not None:
            self.progress.advance(0, f"figure {self.drawn} of {self.figures}: {name}")
        try:
            return self._figure(view, name, measure)
        finally:
            if self.progress is not None:
                self.progress.advance(1)

    def _figure(self, view: StudyView, name: str, measure: str) -> Drawing | Absent:
        wanted = kind(name)
        try:
            plot = wanted.make(view, measure)
        except NotDrawable as lacking:
            return Absent(wanted.title, lacking.message)
        if self.keep:
            self.plots.append((wanted.title, plot))
        return draw(plot.figure, wanted.file(measure), plot.caption, plot.alt, plot.frame, self.out)

    def frame(self, name: str, frame: pd.DataFrame) -> None:
        write_frame(frame, self.out / "tables" / f"{name}.csv")

    def finish(self) -> None:
        """Write the LaTeX document of all tables."""
        write_text(self.out / "tables" / "all_tables.tex", exports.document(self.latex))
