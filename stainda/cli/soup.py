"""``stainda soup``: the trainings of a strategy as one network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import console
from stainda.errors import ConfigError, did_you_mean


def soup(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory with several trainings.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the network, as a job's.")],
    *,
    strategy: Annotated[str | None, typer.Option(help="Whose trainings. Default: the one the report names.")] = None,
    method: Annotated[
        str,
        typer.Option(help="greedy: a training takes part where source validation is no worse; uniform: all do."),
    ] = "greedy",
) -> None:
    """Average the weights of a strategy's trainings into one network (model soup), which predicts as fast as one.

    The trainings differ in their seed alone. Batch statistics are estimated anew, thresholds chosen on source
    validation.

    Examples:

    - `stainda soup runs/mine --out runs/mine_soup`
    - `stainda soup runs/mine --strategy source_only --method uniform --out soup`
    - `stainda predict runs/mine_soup SLIDE --out predictions`
    """
    if method not in ("greedy", "uniform"):
        raise ConfigError(f"there is no soup {method!r}", remedy=did_you_mean(method, ("greedy", "uniform")))
    from stainda.study.soup import soup_of_run

    name, made = soup_of_run(run_folder, out, strategy=strategy, method=method)  # type: ignore[arg-type]
    for job, score in made.scores.items():
        part = "takes part" if job in made.members else "left out"
        console.print(f"{job}: {score:.4f} on source validation, {part}", highlight=False)
    console.print(
        f"{name}, mean of {len(made.members)} of {len(made.scores)} trainings: {made.score:.4f}; {made.folder}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
