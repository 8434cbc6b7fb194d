"""Tables for papers: Markdown, and LaTeX with booktabs, with the very cells of the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from stainda.files import write_text
from stainda.report.latex import escaped
from stainda.report.tables import Cell, PageTable

MOST_ROWS = 300
"""Longer tables are for reading by machines: they are written as CSV alone."""
LONG_TEXT = 34
"""Letters from which a column of text is set in lines of this width."""
LINE = 95
"""Letters that fit side by side in a line of the document; wider tables are set smaller."""
_SIZES = {r"\normalsize": 0.95, r"\footnotesize": 1.15, r"\scriptsize": 1.3}
"""Sizes of a table over several pages, and up to how many lines wide it may be."""
PAGE_ROWS = 40
"""Longer LaTeX tables go over several pages."""


def write_tables(table: PageTable, folder: Path) -> list[str]:
    """Write ``<name>.md`` and ``<name>.tex`` into a folder; nothing for tables longer than :data:`MOST_ROWS`."""
    if len(table.rows) > MOST_ROWS:
        return []
    write_text(folder / f"{table.name}.md", markdown(table))
    write_text(folder / f"{table.name}.tex", latex(table))
    return ["md", "tex"]


def markdown(table: PageTable) -> str:
    """A pipe table with its caption above and its note below."""
    numbers = _numeric(table)
    lines = [f"**{table.caption}**", ""]
    lines.append(_piped(_heading(column) for column in table.columns))
    lines.append("|" + "|".join("---:" if number else "---" for number in numbers) + "|")
    lines += [_piped(shown(cell) for cell in row) for row in table.rows]
    return "\n".join([*lines, *(["", table.note] if table.note else [])]) + "\n"


def latex(table: PageTable) -> str:
    """A ``table`` environment for ``booktabs``, scaled by ``graphicx`` where it is wide; a ``longtable`` where it is
    long. Its lines are ASCII (:mod:`~stainda.report.latex`), so that it compiles under any input encoding."""
    columns, width = _columns(table)
    head = [r"\toprule", _row(map(_heading, table.columns)), r"\midrule"]
    rows = [_row(shown(cell) for cell in row) for row in table.rows]
    caption = rf"\caption{{{escaped(table.caption)}}}"
    label = rf"\label{{tab:{_label(table.name)}}}"
    note = [rf"\par\smallskip\footnotesize {escaped(table.note)}"] if table.note else []
    needs = "% needs \\usepackage{array,booktabs,graphicx,longtable,textcomp}"
    if len(rows) > PAGE_ROWS:
        if width > LINE:
            columns, width = _columns(table, LONG_TEXT * 2 // 3)
        size = next((name for name, wider in _SIZES.items() if width <= wider * LINE), r"\tiny")
        lines = [
            needs, rf"{{{size}\setlength{{\tabcolsep}}{{3pt}}", rf"\begin{{longtable}}{{{columns}}}",
            rf"{caption}{label}\\", *head, r"\endfirsthead", *head, r"\endhead", r"\bottomrule", r"\endlastfoot",
            *rows, r"\end{longtable}", *note, "}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"
    inner = [rf"\begin{{tabular}}{{{columns}}}", *head, *rows, r"\bottomrule", r"\end{tabular}"]
    if width > LINE:
        inner = [r"\resizebox{\textwidth}{!}{%", *inner[:-1], inner[-1] + "}"]
    lines = [needs, r"\begin{table}[htbp]", r"\centering", caption, label, *inner, *note, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _columns(table: PageTable, long: int = LONG_TEXT) -> tuple[str, float]:
    """The kinds of columns, and how many letters wide they are together; text from ``long`` letters on is broken."""
    kinds, total = [], 0.0
    for index, numeric in enumerate(_numeric(table)):
        cells = [shown(row[index]) for row in table.rows] + [_heading(table.columns[index])]
        longest = max(map(_letters, cells))
        if not numeric and longest > long:
            kinds.append(rf">{{\raggedright\arraybackslash}}p{{{long / 2:g}em}}")
            longest = long
        else:
            kinds.append("r" if numeric else "l")
        total += longest + 2.5
    return "".join(kinds), total


def _letters(text: str) -> int:
    """Letters that LaTeX sets of a text."""
    return len(re.sub(r"\\[a-zA-Z]+|[\\{}$]", "", escaped(text)))


def _row(cells: Iterable[str]) -> str:
    """A line of a table; one that begins like an argument of the line before it is kept from being one."""
    line = " & ".join(map(escaped, cells)) + r" \\"
    return "{}" + line if line[0] in "[*" else line


def document(names: Sequence[str]) -> str:
    """A LaTeX document that shows the tables of these names, to be compiled in their folder."""
    lines = [
        r"\documentclass{article}", r"\usepackage[T1]{fontenc}", r"\usepackage[utf8]{inputenc}",
        r"\usepackage{array,booktabs,graphicx,longtable,textcomp}", r"\usepackage[margin=2cm]{geometry}",
        r"\begin{document}",
    ]  # fmt: skip
    return "\n".join([*lines, *(rf"\input{{{name}.tex}} \clearpage" for name in names), r"\end{document}"]) + "\n"


def shown(cell: Cell) -> str:
    """What a cell says in one line: an interval or a remark stands in brackets."""
    return f"{cell.text} ({cell.small})" if cell.small and cell.text else cell.text


def _heading(column: str) -> str:
    first, _, second = column.partition("\n")
    return f"{first} ({second})" if second else first


def _numeric(table: PageTable) -> list[bool]:
    return [any(row[index].number for row in table.rows) for index in range(len(table.columns))]


def _piped(cells: object) -> str:
    assert hasattr(cells, "__iter__")
    return (
        "| "
        + " | ".join(str(cell).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells)
        + " |"
    )


def _label(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-:" else "-" for letter in name)
