"""``stainda plan``: what a study is going to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.display import console, show_table

if TYPE_CHECKING:
    from stainda.study.budget import Budget


def plan(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file, see studies/ for examples.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the study, e.g. training.epochs=2")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory. Default: runs/<name of the study>.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that the manifest's paths are relative to.")
    ] = None,
    timed: Annotated[
        bool, typer.Option("--time", help="Also say about how long: a step of the network is timed here, in seconds.")
    ] = False,
) -> None:
    """Check a study and say what it will do: rotations, budget, trainings. Nothing is run or written.

    Examples:

    - `stainda plan studies/leave_one_centre_out.yaml`
    - `stainda plan studies/quickstart.yaml training.epochs=20 --time`
    """
    from stainda.config import load_study
    from stainda.study.budget import budget_sentences
    from stainda.study.plan import plan_study

    config = load_study(study, overrides or (), data)
    found = plan_study(config, out, timed=timed)
    rows = [
        (
            one.name, ", ".join(one.roles.sources), ", ".join(one.roles.targets) or "the same domains",
            *(len(one.patients(split)) or len(one.patients("all")) for split in ("train", "val", "test")),
            found.slides[one.name],
        )
        for one in found.rotations
    ]  # fmt: skip
    show_table("", ("rotation", "sources", "targets", "train", "val", "test patients", "slides scored"), rows)
    show_table(
        "",
        ("strategy", "trials", "seeds", "steps", "patches a step", "trainings", "searched", ""),
        [
            (
                one.strategy, one.trials, one.seeds, one.steps, _patches(one), one.jobs, one.settings, one.note,
            )
            for one in found.budgets
        ],
    )  # fmt: skip
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for sentence in budget_sentences(found.budgets, config.baseline):
        console.print(sentence, highlight=False, soft_wrap=True)
    if not timed:
        console.print("how long: add --time", highlight=False)
        return
    if found.cpu_seconds is None:
        console.print("how long: unknown, the first slide cannot be opened or lacks its pixel size", highlight=False)
        return
    console.print(
        f"about {_duration(found.cpu_seconds)} of one CPU core for the trainings and their scores, on this machine "
        "(reading slides, registration and patches come on top; a GPU is faster)",
        highlight=False,
        soft_wrap=True,
    )


def _patches(one: Budget) -> str:
    return f"{one.labelled}+{one.unlabelled}" if one.unlabelled else str(one.labelled)


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
