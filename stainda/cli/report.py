"""``stainda plot`` and ``stainda compare``: single figures, and several studies side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import ConsoleProgress, Quiet, console, show_table
from stainda.names import with_ending

Metric = Annotated[str, typer.Option(help="A measure of the records: dice, object_f1, hausdorff_95, auroc …")]
Selection = Annotated[str, typer.Option(help="The rule that chose trial and checkpoint; see the report.")]


def plot(
    run_folder: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run directory.")] = None,
    kind: Annotated[str, typer.Option(help="Which figure; --list names them.")] = "forest",
    metric: Metric = "dice",
    selection: Selection = "source_validation",
    out: Annotated[Path | None, typer.Option(help="FILE.svg, .png or .pdf. Default: KIND_METRIC.svg")] = None,
    list_kinds: Annotated[bool, typer.Option("--list", help="Name the kinds of figures and end.")] = False,
) -> None:
    """Draw one figure of a run; the numbers in it are written as CSV next to it.

    Examples:

    - `stainda plot --list`
    - `stainda plot runs/quickstart --kind slopes --metric object_f1 --out slopes.svg`
    - `stainda plot runs/quickstart --kind heat_map --selection oracle_selection --out bound.pdf`
    """
    if list_kinds:
        from stainda.report import catalogue

        show_table("", ("kind", "what it shows"), catalogue())
        return
    if run_folder is None:
        raise typer.BadParameter("give a run directory, or --list", param_hint="RUN")
    from stainda.study import read_study

    read_study(run_folder)  # a wrong folder is reported before matplotlib is imported
    from stainda.report import make_plot, save_plot

    figure = make_plot(run_folder, kind, metric, selection)
    path = save_plot(figure, out or Path(f"{kind}_{metric}.svg"))
    numbers = with_ending(path, ".csv")
    console.print(f"figure: {path}\nnumbers: {numbers}", highlight=False, markup=False, soft_wrap=True)
    console.print(figure.caption, highlight=False, markup=False)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_A RUN_B...", help="Two or more finished run directories.")],
    out: Annotated[Path, typer.Option(help="Folder to write the page and its tables to.")] = Path("comparison"),
    metric: Metric = "dice",
    selection: Selection = "source_validation",
    quiet: Quiet = False,
) -> None:
    """Set several studies side by side; a strategy in two of them is compared on the patients they share.

    Every later run is compared with the first. Studies of other classes, overlaps or kinds of domains are refused.

    Examples:

    - `stainda compare runs/quickstart runs/longer`
    - `stainda compare runs/from_pas runs/from_sr --metric object_f1 --out from_where/`
    """
    from stainda.study import read_study

    for run_folder in runs:
        read_study(run_folder)
    from stainda.report import make_comparison

    page = make_comparison(runs, out, metric, selection, ConsoleProgress(quiet))
    console.print(f"comparison: {page}", highlight=False, markup=False, soft_wrap=True)
