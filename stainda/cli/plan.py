"""``stainda plan``: what a study is going to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.display import console, duration, show_table

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
    - `stainda plan studies/quickstart.yaml recipe=strong`
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
    console.print(found.recipe, highlight=False, markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for sentence in budget_sentences(found.budgets, config.baseline):
        console.print(sentence, highlight=False, soft_wrap=True)
    if found.registration:
        console.print(found.registration, highlight=False, soft_wrap=True)
    show_table("", ("stage", "about", ""), [(one.stage, duration(one.seconds), one.basis) for one in found.stages])
    if not timed:
        console.print("how long the trainings take: add --time", highlight=False)
        return
    if found.cpu_seconds is None:
        console.print(
            "how long the trainings take is unknown: the first slide cannot be opened or lacks its pixel size (the "
            "manifest's column mpp)",
            highlight=False,
            soft_wrap=True,
        )
        return
    console.print(
        f"about {duration(sum(one.seconds for one in found.stages))} in all on this machine; the trainings and their "
        f"scores take {duration(found.cpu_seconds)} of one CPU core (a GPU is faster)",
        highlight=False,
        soft_wrap=True,
    )


def _patches(one: Budget) -> str:
    return f"{one.labelled}+{one.unlabelled}" if one.unlabelled else str(one.labelled)
