"""A single figure of a run: for notebooks, and for ``stainda plot``."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from stainda.errors import RecordError
from stainda.evaluation.metrics import measure
from stainda.evaluation.selection import DEFAULT_RULE, rule
from stainda.files import whole_file
from stainda.names import ending, stem, with_ending
from stainda.report import figures
from stainda.report.drawings import write_frame
from stainda.report.figure_registry import Plot, kind
from stainda.report.loading import load_run
from stainda.report.run import LoadedRun
from stainda.report.study_view import StudyView, make_view
from stainda.report.summary_text import PRIMARY
from stainda.run_directory.result_tables import RECORDS

ENDINGS = (".svg", ".png", ".pdf")
DPI = 300


def plot(
    run: str | Path | LoadedRun | StudyView, kind: str = "forest", metric: str = PRIMARY, selection: str = DEFAULT_RULE
) -> Figure:
    """One figure of a run, as matplotlib draws it: show it in a notebook, change it, save it.

    ``stainda plot --list`` names the kinds. From one run several figures are made faster of ``view(run)``.

    Args:
        run: a run directory, or what :func:`view` or ``load_run`` gave.
        metric: a measure of the records: ``dice``, ``object_f1``, ``hausdorff_95`` …
        selection: the rule that chooses trial and checkpoint, see ``stainda.evaluation.RULES``.

    Raises:
        RecordError: the kind, the measure or the rule is unknown, or the run does not hold what the figure needs.

    Example:
        >>> from stainda.report import plot  # doctest: +SKIP
        >>> plot("runs/quickstart", "slopes", metric="object_f1").savefig("slopes.svg")  # doctest: +SKIP
    """
    return make_plot(run, kind, metric, selection).figure


def view(run: str | Path | LoadedRun) -> StudyView:
    """A run with its statistics, to make several figures of; a study of several rotations as one.

    Raises:
        RecordError: it is no run directory, or no test patient was scored in it.
    """
    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    result = make_view(loaded)
    if result is None:
        reason = loaded.missing.get(RECORDS.path, "there are no records of test patients")
        raise RecordError(reason, file=loaded.folder, remedy="Run 'stainda run' to its end first")
    return result


def make_plot(
    run: str | Path | LoadedRun | StudyView, name: str, metric: str = PRIMARY, selection: str = DEFAULT_RULE
) -> Plot:
    """The figure with its caption and the numbers that are drawn; see :func:`plot`."""
    wanted = kind(name)
    measure(metric)
    rule(selection)
    seen = run if isinstance(run, StudyView) else view(run)
    return wanted.make(seen, metric, selection)


def save_plot(plot: Plot, path: str | Path) -> Path:
    """Write a figure as SVG, PNG (300 dpi) or PDF, by the ending of ``path``, and its numbers as CSV next to it.

    Raises:
        RecordError: another ending.
    """
    path = Path(path)
    if ending(path) not in ENDINGS:
        raise RecordError(
            f"figures are written as {', '.join(ENDINGS)}, not as {ending(path) or 'a file without ending'!r}",
            file=path,
        )
    kind_of_file = ending(path).lstrip(".")
    about = {"Creator": "stainda"} if kind_of_file != "png" else {"Software": "stainda"}
    if kind_of_file == "svg":
        about["Date"] = None  # type: ignore[assignment]  # the same figure is the same file
    with mpl.rc_context({**figures.STYLE, "svg.hashsalt": stem(path), "pdf.fonttype": 42}), whole_file(path) as aside:
        plot.figure.savefig(aside, format=kind_of_file, dpi=DPI, facecolor="white", metadata=about)
    write_frame(plot.frame, with_ending(path, ".csv"))
    return path
