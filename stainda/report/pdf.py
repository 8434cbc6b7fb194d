"""``report.pdf``: the first view of the page on A4, and each figure on a page of its own; drawn by matplotlib alone."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from stainda.files import whole_file
from stainda.report import exports, figures
from stainda.report.figure_registry import Plot
from stainda.report.figures import INK, LINE, MUTED
from stainda.report.tables import PageTable
from stainda.report.writer import Writer

PAGE_MM = (210.0, 297.0)
MARGIN_MM = 17.0
POINT_MM = 25.4 / 72
MOST_TABLE_ROWS = 120
"""Longer tables are read from their files."""
_CHARACTERS = 112
"""Of 8 pt in the width of the page."""


def write_pdf(path: Path, context: dict[str, Any], write: Writer) -> Path:
    """Write the PDF.

    Args:
        context: of the page's template: title, study, what is said, the main table.
        write: holds the figures that were made (with ``keep``).
    """
    with mpl.rc_context({**figures.STYLE, "pdf.fonttype": 42, "figure.constrained_layout.use": False}):
        about = {"Title": str(context["title"]), "Creator": "stainda", "CreationDate": None}
        with whole_file(path) as aside, PdfPages(aside, metadata=about) as pages:
            flow = _Flow(pages)
            for style, words in _front(context):
                flow.paragraph(style, words)
            if context["main_table"] is not None:
                _add_table(flow, context["main_table"])
            for style, words in _limitations(context):
                flow.paragraph(style, words)
            flow.end()
            for title, plot in write.plots:
                pages.savefig(figure_page(plot, title))
    return path


def _front(context: dict[str, Any]) -> list[tuple[str, str]]:
    """Style and text of the paragraphs before the table."""
    study = context["study"]
    out = [("title", str(context["title"]))]
    out += [("lead", study.question)] if study.question else []
    return [*out, ("heading", "The answer"), *(("text", sentence.text) for sentence in context["said"].first)]


def _limitations(context: dict[str, Any]) -> list[tuple[str, str]]:
    """Style and text of the paragraphs after the table."""
    cautions = [("text", sentence.text) for sentence in context["said"].limitations]
    colophon = f"Made {context['made']} by stainda from the files of this run alone; index.html has the rest."
    return [*([("heading", "Limitations")] if cautions else []), *cautions, ("small", colophon)]


_SIZES = {
    "title": (16, "bold", 3.0), "lead": (10, "normal", 3.0), "heading": (11, "bold", 1.5),
    "text": (9, "normal", 1.8), "small": (7, "normal", 1.0),
}  # fmt: skip


class _Flow:
    """Text and rules from the top of an A4 page to its bottom, then on the next."""

    def __init__(self, pages: PdfPages) -> None:
        self.pages, self.page, self.y = pages, _page(), PAGE_MM[1] - MARGIN_MM

    @property
    def fresh(self) -> bool:
        return self.y == PAGE_MM[1] - MARGIN_MM

    def room(self, height: float) -> None:
        """Turn the page where less than ``height`` millimetres are left."""
        if self.y - height < MARGIN_MM and not self.fresh:
            self.end()

    def end(self) -> None:
        if not self.fresh:
            self.pages.savefig(self.page)
        self.page, self.y = _page(), PAGE_MM[1] - MARGIN_MM

    def paragraph(self, style: str, words: str) -> None:
        size, weight, after = _SIZES[style]
        step = size * POINT_MM * 1.35
        if style == "heading":
            self.room(3.5 + 4 * step)
            self.y -= 0 if self.fresh else 3.5
        for line in textwrap.wrap(words, int(_CHARACTERS * 7.6 / size)) or [""]:
            self.room(step)
            self.y -= step
            _write(self.page, MARGIN_MM, self.y, line, size, weight)
        self.y -= after


def figure_page(plot: Plot, title: str) -> Figure:
    """A figure in its own size with its caption below, on a page as wide as A4 and as high as it needs."""
    figure = plot.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    width, height = (25.4 * side for side in figure.get_size_inches())
    caption = textwrap.wrap(plot.caption, int(_CHARACTERS * 0.98))
    foot = 5 + 4.2 * len(caption)
    page_height = 2 * MARGIN_MM + 12 + height + foot
    left, bottom = MARGIN_MM + max(0.0, (PAGE_MM[0] - 2 * MARGIN_MM - width) / 2), page_height - MARGIN_MM - 12 - height

    def moved(x: float, y: float) -> tuple[float, float]:
        return (left + x * width) / PAGE_MM[0], (bottom + y * height) / page_height

    boxes = [(place, place.get_position(original=False)) for place in figure.axes]
    words = [(text, text.get_position()) for text in figure.texts]
    words += [(label, label.get_position()) for label in (figure._supxlabel, figure._supylabel) if label is not None]  # type: ignore[attr-defined]
    legends = [
        (legend, legend.get_window_extent().transformed(figure.transFigure.inverted())) for legend in figure.legends
    ]
    figure.set_size_inches(PAGE_MM[0] / 25.4, page_height / 25.4)
    for place, box in boxes:
        (x0, y0), (x1, y1) = moved(box.x0, box.y0), moved(box.x1, box.y1)
        place.set_position((x0, y0, x1 - x0, y1 - y0))
    for artist, (x, y) in dict(words).items():
        artist.set_position(moved(x, y))
    for legend, box in legends:
        legend.set_loc("lower left")
        legend.set_bbox_to_anchor(moved(box.x0, box.y0), transform=figure.transFigure)
    _write(figure, MARGIN_MM, page_height - MARGIN_MM - 4, title, 11, "bold", height=page_height)
    for index, line in enumerate(caption):
        _write(figure, MARGIN_MM, bottom - 5 - 4.2 * index, line, 8, "normal", height=page_height)
    return figure


def _add_table(flow: _Flow, table: PageTable) -> None:
    """A table over as many pages as it needs; columns that do not fit side by side follow below."""
    flow.room(40)
    flow.paragraph("heading", table.caption)
    rows = [[exports.shown(cell) for cell in row] for row in table.rows]
    if len(rows) > MOST_TABLE_ROWS:
        flow.paragraph("text", f"{len(rows)} rows: see tables/{table.name}.csv.")
        return
    titles = [column.replace("\n", ", ") for column in table.columns]
    columns = [[titles[index], *(row[index] for row in rows)] for index in range(len(titles))]
    widths = [min(34, max(len(cell) for cell in column)) * 1.42 + 3 for column in columns]
    numeric = [any(row[index].number for row in table.rows) for index in range(len(titles))]
    for group in _fitting(widths):
        for index in range(len(rows) + 1):
            cells = [textwrap.wrap(columns[place][index], 34) or [""] for place in group]
            deep = 3.5 * max(map(len, cells)) + 1.2
            flow.room(deep)
            x = MARGIN_MM
            for place, lines in zip(group, cells, strict=True):
                right = bool(index) and numeric[place]
                for number, line in enumerate(lines):
                    _write(flow.page, x + widths[place] - 3 if right else x, flow.y - 3.5 * (number + 1), line, 7,
                           "bold" if index == 0 else "normal", align="right" if right else "left")  # fmt: skip
                x += widths[place]
            flow.y -= deep
            ends = [MARGIN_MM / PAGE_MM[0], (x - 3) / PAGE_MM[0]]
            tone = MUTED if index == 0 else LINE
            flow.page.add_artist(mpl.lines.Line2D(ends, [flow.y / PAGE_MM[1]] * 2, color=tone, linewidth=0.5))
        flow.y -= 4
    if table.note:
        flow.paragraph("small", table.note)
    flow.y -= 5


def _fitting(widths: Sequence[float]) -> list[list[int]]:
    """Indices of columns that fit the page together; the first column leads every group."""
    room = PAGE_MM[0] - 2 * MARGIN_MM
    groups, used = [[0]], widths[0]
    for index in range(1, len(widths)):
        if used + widths[index] > room and len(groups[-1]) > 1:
            groups.append([0])
            used = widths[0]
        groups[-1].append(index)
        used += widths[index]
    return groups


def _page() -> Figure:
    return Figure(figsize=(PAGE_MM[0] / 25.4, PAGE_MM[1] / 25.4))


def _write(
    page: Figure, x: float, y: float, words: str, size: float, weight: str, *, height: float = PAGE_MM[1],
    align: str = "left",
) -> None:  # fmt: skip
    page.text(x / PAGE_MM[0], y / height, words, fontsize=size, fontweight=weight, color=INK, ha=align, va="bottom")
