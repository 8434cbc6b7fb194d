"""``stainda plan``: what a study is going to do."""

from __future__ import annotations

from collections.abc import Sequence
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
    study_plan = plan_study(config, out, timed=timed)
    rows = [
        (
            rotation.name, ", ".join(rotation.roles.sources), ", ".join(rotation.roles.targets) or "the same domains",
            *(len(rotation.patients(split)) or len(rotation.patients("all")) for split in ("train", "val", "test")),
            study_plan.slides[rotation.name],
        )
        for rotation in study_plan.rotations
    ]  # fmt: skip
    show_table("", ("rotation", "sources", "targets", "train", "val", "test patients", "slides scored"), rows)
    if study_plan.budgets:
        _show_budgets(study_plan.budgets)
    console.print(study_plan.recipe, highlight=False, markup=False, soft_wrap=True)
    for note in study_plan.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for sentence in budget_sentences(study_plan.budgets, config.baseline) if study_plan.budgets else ():
        console.print(sentence, highlight=False, soft_wrap=True)
    if study_plan.registration:
        console.print(study_plan.registration, highlight=False, soft_wrap=True)
    if not study_plan.budgets:
        return
    show_table(
        "", ("stage", "about", ""), [(stage.stage, duration(stage.seconds), stage.basis) for stage in study_plan.stages]
    )
    if not timed:
        console.print("how long the trainings take: add --time", highlight=False)
        return
    if study_plan.cpu_seconds is None:
        console.print(
            "how long the trainings take is unknown: the first slide cannot be opened or lacks its pixel size (the "
            "manifest's column mpp)",
            highlight=False,
            soft_wrap=True,
        )
        return
    console.print(
        f"about {duration(sum(stage.seconds for stage in study_plan.stages))} in all on this machine; the trainings "
        f"and their scores take {duration(study_plan.cpu_seconds)} of one CPU core (a GPU is faster)",
        highlight=False,
        soft_wrap=True,
    )


def _show_budgets(budgets: Sequence[Budget]) -> None:
    show_table(
        "",
        ("strategy", "trials", "seeds", "steps", "patches a step", "trainings", "searched", ""),
        [
            (
                budget.strategy, budget.trials, budget.seeds, budget.steps, _patches(budget), budget.jobs,
                budget.settings, budget.note,
            )
            for budget in budgets
        ],
    )  # fmt: skip


def _patches(budget: Budget) -> str:
    return f"{budget.labelled}+{budget.unlabelled}" if budget.unlabelled else str(budget.labelled)
