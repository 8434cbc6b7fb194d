"""``stainda status``: how far a run is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.display import console, duration, show_table

if TYPE_CHECKING:
    from stainda.study.status import Status

_SAID = {
    "running": "running", "complete": "complete", "failed": "failed", "interrupted": "interrupted",
    "stopped": "stopped: its process is gone", "unknown": "not running, made by an earlier version",
}  # fmt: skip


def status(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, in work or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say how far a run is: stages, trainings by state with reasons, time left. Reads files only.

    It can be asked from another terminal while `stainda run` works.

    Examples:

    - `stainda status runs/quickstart`
    - `stainda status runs/quickstart --json`
    """
    from stainda.study.status import read_status

    found = read_status(run_folder)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
        return
    _say(f"{found.study}: {_headline(found)}")
    show_table("", ("stage", "state"), list(found.stages.items()))
    counts = ", ".join(f"{number} {name}" for name, number in found.counts.items() if number)
    _say(f"trainings: {', '.join(filter(None, (counts, f'{found.waiting} waiting' if found.waiting else '')))}")
    rows = [
        (one.rotation, one.strategy, one.trial, one.seed, one.state, _about(one.epochs, one.reason))
        for one in found.jobs
        if one.state != "done"
    ]
    if rows:
        show_table("", ("rotation", "strategy", "trial", "seed", "state", ""), rows)
    if found.state in ("failed", "interrupted", "stopped"):
        _say("Run the same command again to go on; what is complete is kept.")


def _headline(found: Status) -> str:
    told = [_SAID.get(found.state, found.state)]
    if found.state == "running":
        place = f"{found.stage} of rotation {found.rotation}" if found.rotation else found.stage
        share = "" if found.share is None else f" ({found.share:.0%})"
        told += [f"{place}{share}", found.task]
        left = found.seconds_left
        told.append("time left not known" if left is None else f"about {duration(left)} left")
    return ", ".join(filter(None, [*told, found.reason.splitlines()[0] if found.reason else ""]))


def _about(epochs: int | None, reason: str) -> str:
    return reason.splitlines()[0] if reason else "" if epochs is None else f"{epochs} epochs"


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
