"""Tables for papers: Markdown, and LaTeX with booktabs, with the very cells of the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stainda.files import write_text
from stainda.report.tables import Cell, Table

MOST_ROWS = 300
"""Longer tables are for reading by machines: they are written as CSV alone."""
MOST_COLUMNS = 8
"""Wider LaTeX tables are scaled to the width of the text."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "×": r"$\times$", "±": r"$\pm$", "≥": r"$\geq$",
    "≤": r"$\leq$", "µ": r"\textmu{}", "²": r"\textsuperscript{2}", "–": "--", "…": r"\ldots{}", "→": r"$\rightarrow$",
    "\u00a0": "~", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "\n": " ", "\r": " ",
    '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": "'",
}  # fmt: skip


def write_tables(table: Table, folder: Path) -> list[str]:
    """Write ``<name>.md`` and ``<name>.tex`` into a folder; nothing for tables longer than :data:`MOST_ROWS`."""
    if len(table.rows) > MOST_ROWS:
        return []
    write_text(folder / f"{table.name}.md", markdown(table))
    write_text(folder / f"{table.name}.tex", latex(table))
    return ["md", "tex"]


def markdown(table: Table) -> str:
    """A pipe table with its caption above and its note below."""
    numbers = _numeric(table)
    lines = [f"**{table.caption}**", ""]
    lines.append(_piped(_heading(column) for column in table.columns))
    lines.append("|" + "|".join("---:" if number else "---" for number in numbers) + "|")
    lines += [_piped(shown(cell) for cell in row) for row in table.rows]
    return "\n".join([*lines, *(["", table.note] if table.note else [])]) + "\n"


def latex(table: Table) -> str:
    """A ``table`` environment for ``booktabs`` (and ``graphicx``, where it is wide)."""
    columns = "".join("r" if number else "l" for number in _numeric(table))
    body = [" & ".join(escaped(_heading(column)) for column in table.columns) + r" \\", r"\midrule"]
    body += [" & ".join(escaped(shown(cell)) for cell in row) + r" \\" for row in table.rows]
    inner = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]
    if len(table.columns) > MOST_COLUMNS:
        inner = [r"\resizebox{\textwidth}{!}{%", *inner[:-1], inner[-1] + "}"]
    lines = [
        "% needs \\usepackage{booktabs,graphicx,textcomp}", r"\begin{table}[htbp]", r"\centering",
        rf"\caption{{{escaped(table.caption)}}}", rf"\label{{tab:{_label(table.name)}}}", *inner,
    ]  # fmt: skip
    if table.note:
        lines.append(rf"\par\smallskip\footnotesize {escaped(table.note)}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def document(names: Sequence[str]) -> str:
    """A LaTeX document that shows the tables of these names, to be compiled in their folder."""
    lines = [
        r"\documentclass{article}", r"\usepackage[T1]{fontenc}", r"\usepackage[utf8]{inputenc}",
        r"\usepackage{booktabs,graphicx,textcomp}", r"\usepackage[margin=2cm]{geometry}", r"\begin{document}",
    ]  # fmt: skip
    return "\n".join([*lines, *(rf"\input{{{name}.tex}} \clearpage" for name in names), r"\end{document}"]) + "\n"


def shown(cell: Cell) -> str:
    """What a cell says in one line: an interval or a remark stands in brackets."""
    return f"{cell.text} ({cell.small})" if cell.small and cell.text else cell.text


def escaped(text: str) -> str:
    """Text for LaTeX."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _heading(column: str) -> str:
    first, _, second = column.partition("\n")
    return f"{first} ({second})" if second else first


def _numeric(table: Table) -> list[bool]:
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
