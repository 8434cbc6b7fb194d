"""``stainda status``: how far a run is."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.display import console, duration, show_table

if TYPE_CHECKING:
    from stainda.study.status import JobStatus, Status

_SAID = {
    "running": "running", "complete": "complete", "failed": "failed", "interrupted": "interrupted",
    "stopped": "stopped: its process is gone", "unknown": "not running, made by an earlier version",
}  # fmt: skip


def status(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, in work or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    watch: Annotated[
        float | None, typer.Option("--watch", min=0.5, help="Show it again every so many seconds, until the run ends.")
    ] = None,
) -> None:
    """Say how far a run is: stages, trainings by state with reasons, time left. Reads files only.

    It can be read from another terminal while `stainda run` works.

    Examples:

    - `stainda status runs/quickstart`
    - `stainda status runs/quickstart --json`
    - `stainda status runs/quickstart --watch 5`
    """
    from stainda.study.status import read_status

    while True:
        run_status = read_status(run_folder)
        if as_json:
            typer.echo(json.dumps(asdict(run_status), indent=1))
        else:
            if watch is not None:
                console.clear()
            _show(run_status)
        if watch is None or run_status.state != "running":
            return
        time.sleep(watch)


def _show(run_status: Status) -> None:
    _say(f"{run_status.study}: {_headline(run_status)}")
    show_table("", ("stage", "state"), list(run_status.stages.items()))
    counts = ", ".join(f"{number} {name}" for name, number in run_status.counts.items() if number)
    _say(
        f"trainings: {', '.join(filter(None, (counts, f'{run_status.waiting} waiting' if run_status.waiting else '')))}"
    )
    rows = [
        (job.rotation, job.strategy, job.trial, job.seed, job.state, _about(job))
        for job in run_status.jobs
        if job.state != "done"
    ]
    if rows:
        show_table("", ("rotation", "strategy", "trial", "seed", "state", ""), rows)
    for slide, reason in run_status.left_out.items():
        _say(f"left out: slide {slide}: {reason}")
    if run_status.state in ("failed", "interrupted", "stopped"):
        _say("Run the same command again to go on; what is complete is kept.")


def _headline(run_status: Status) -> str:
    parts = [_SAID.get(run_status.state, run_status.state)]
    if run_status.state == "running":
        count, begun = run_status.rotations
        place = run_status.stage
        if run_status.rotation:
            place += f" of rotation {run_status.rotation}" + (f", {begun} of {count}" if count else "")
        share = "" if run_status.share is None else f" ({run_status.share:.0%})"
        parts += [f"{place}{share}", run_status.task]
        if run_status.per_hour is not None and run_status.stage == "train":
            parts.append(f"{run_status.per_hour:.0f} epochs an hour")
        left = run_status.seconds_left
        parts.append("time left not known" if left is None else f"about {duration(left)} left")
    return ", ".join(filter(None, [*parts, run_status.reason.splitlines()[0] if run_status.reason else ""]))


def _about(job: JobStatus) -> str:
    if job.reason:
        return job.reason.splitlines()[0]
    return " ".join(filter(None, ("" if job.epochs is None else f"{job.epochs} epochs", job.host and f"on {job.host}")))


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
