"""The page: everything gathered, drawn and written under ``report/``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stainda.files import write_text
from stainda.progress import SILENT, Progress
from stainda.report.drawings import write_frame
from stainda.report.figure_registry import kinds_of
from stainda.report.loading import load_run
from stainda.report.run import LoadedRun
from stainda.report.sections import OF_OBJECTS, TEMPLATES, Sections
from stainda.report.study_view import make_view
from stainda.report.writer import Writer
from stainda.run_directory.contents import REPORT
from stainda.run_directory.result_tables import RESULTS

REST = 4
"""Steps of the progress, each as long as a figure, that the statistics take, and the page itself."""


def make_report(run: str | Path, progress: Progress = SILENT, *, pdf: bool = False) -> Path:
    """Make ``report/index.html`` of a run directory, or of the root of a study of several rotations, from its files.

    Next to it: ``report/tables/`` (CSV, Markdown, LaTeX), ``report/figures/`` (SVG, PNG, CSV), ``report/model_cards/``.
    ``results.csv`` of a run is written anew from the records. Needs neither torch nor slides nor the network, and so
    does the page.

    Args:
        pdf: also write ``report/report.pdf``: the answer with its table, and the figures, on A4.

    Returns:
        The page.

    Raises:
        RecordError: ``run`` is no run directory, or a table in it breaks its contract.
    """
    loaded = load_run(run)
    folder = loaded.folder
    out, aside = folder / "report", folder / ".report-new"
    shutil.rmtree(aside, ignore_errors=True)
    figures = _figures_to_draw(loaded)
    with progress.task("Making the report", figures + 2 * REST) as task:
        view = make_view(loaded)
        task.advance(REST, "statistics")
        write = Writer(aside, keep=pdf, progress=task, figures=figures)
        context = Sections(loaded, view, write).context()
        write.finish()
        if pdf:
            from stainda.report.pdf import write_pdf

            write_pdf(aside / "report.pdf", context, write)
        task.advance(figures - write.drawn, "page")
        write_text(aside / "answer.txt", "".join(f"{sentence.text}\n" for sentence in context["said"].all()))
        write_text(REPORT.inside(aside), render("page.html.j2", {**context, "pdf": pdf}))
        if view is not None and not loaded.rotates:  # the tables of several rotations are stacked by the study
            write_frame(view.analysis.results, folder / RESULTS.path)
        replace_folder(aside, out)
        task.advance(REST, "page")
    return REPORT.inside(out)


def _figures_to_draw(run: LoadedRun) -> int:
    """Figures of the page: every kind once, some for the objects as well."""
    if not run.scored:
        return 0
    return len(kinds_of(run)) + len(OF_OBJECTS) * bool((run.records["measure"] == "object_f1").any())


def replace_folder(aside: Path, out: Path) -> None:
    """Put the finished folder in the place of the old one; an interrupted report leaves the old one whole."""
    old = out.with_name(f".{out.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    aside.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def render(template: str, context: dict[str, Any]) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["svg"] = Markup
    return environment.get_template(template).render(**context)
