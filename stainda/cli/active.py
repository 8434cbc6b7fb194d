"""``stainda active``: which regions to annotate next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import ConsoleProgress, console
from stainda.errors import ConfigError, did_you_mean


def active(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory with trained networks.")],
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="random, entropy, disagreement (between registered stains) or core_set."),
    ] = None,
    *,
    budget: Annotated[int, typer.Option(min=1, help="Regions to annotate, in each round.")] = 20,
    strategy: Annotated[str | None, typer.Option(help="Whose network. Default: the one the report names.")] = None,
    sources_only: Annotated[bool, typer.Option("--sources-only", help="No regions of target sections.")] = False,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Rounds on the known annotations of the source."),
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="With --simulate: trainings of each method.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="With --simulate: repetitions.")] = 1,
) -> None:
    """Choose regions of training patients' sections to annotate next, written for QuPath.

    Files: RUN/active/regions.csv and RUN/active/regions/SLIDE.geojson. With --simulate: RUN/active/rounds.csv.

    Example: `stainda active runs/quickstart --method entropy --budget 20`
    """
    from stainda.evaluation.acquisition import METHODS

    wanted = [*(method or (METHODS if simulate else ("entropy",)))]
    for name in wanted:
        if name not in METHODS:
            raise ConfigError(f"there is no method {name!r}", remedy=did_you_mean(name, METHODS))
    from stainda.study.active import simulate_rounds, suggest_regions

    known = [name for name in METHODS if name in wanted]
    if simulate:
        rows = simulate_rounds(
            run_folder, methods=known, rounds=rounds, budget=budget, strategy=strategy, seeds=seeds,
            progress=ConsoleProgress(),
        )  # fmt: skip
        for row in rows:
            console.print(
                f"{row['method']}, seed {row['seed']}, round {row['round']}: {row['objects']} objects, "
                f"Dice {row['dice']:.3f} on source validation", highlight=False,
            )  # fmt: skip
        return
    if len(known) > 1:
        raise ConfigError("one method chooses the regions", remedy="Name one --method, or add --simulate")
    suggestion = suggest_regions(
        run_folder, method=known[0], budget=budget, strategy=strategy, targets=not sources_only,
        progress=ConsoleProgress(),
    )  # fmt: skip
    console.print(
        f"{len(suggestion.rows)} regions on {len(suggestion.files)} sections: {run_folder / 'active' / 'regions'} "
        "(drag a file onto its slide in QuPath)", highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    for block in suggestion.blocks[:5]:
        console.print(f"review its block: stainda review {run_folder} --block {block}", highlight=False, markup=False)
