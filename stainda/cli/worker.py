"""``stainda worker``: a further worker of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import ConsoleProgress, Quiet, console


def worker(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory that `stainda run` works in.")],
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Trainings side by side. Default: what the free cores bear.")
    ] = None,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for a leader that is not there.")] = 0,
    silent: Annotated[
        float, typer.Option("--silent", min=1, help="Seconds without a sign after which another worker is given up.")
    ] = 90,
    quiet: Quiet = False,
) -> None:
    """Help a run from another terminal or machine that sees its run directory under the same path.

    It takes trainings that nobody has; `stainda run` still decides which there are. Any number may join and leave: what
    one leaves unfinished is taken up by another.

    Examples:

    - `stainda worker runs/quickstart`
    - `stainda worker runs/quickstart --workers 4 --wait 600`
    """
    from stainda.study.worker import work_for

    done = work_for(run_folder, workers=workers, wait=wait, silent=silent, progress=ConsoleProgress(quiet))
    console.print(f"trained here: {done}", highlight=False)
