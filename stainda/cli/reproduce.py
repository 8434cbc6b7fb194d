"""``stainda reproduce``: a run once more, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import ConsoleProgress, Quiet, console, show_table


def reproduce(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory that is complete.")],
    out: Annotated[Path | None, typer.Option("--out", help="Where it is made again. Default: RUN_again.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make a run again from its study.yaml, and compare all records to the bit.

    Ends with status 1 where any differs. The slides must still be where the study says.

    Example: `stainda reproduce runs/quickstart`
    """
    from stainda.study.reproducing import reproduce as reproduce_run

    made = reproduce_run(run_folder, out, ConsoleProgress(quiet))
    show_table(
        f"{run_folder} and {made.out}",
        ("records", "rows", "only then", "only now", "changed", "largest difference"),
        [(c.table, c.rows, c.missing, c.added, c.changed, f"{c.largest:.3g}") for c in made.comparisons],
    )
    for name, (then, now) in made.versions.items():
        console.print(f"other version: {name} {then} then {now}", highlight=False)
    if not made.is_same:
        raise typer.Exit(1)
    console.print("all records are the same", highlight=False)
