"""``stainda init``: a first study from a folder of slides."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.display import console, show_table

if TYPE_CHECKING:
    from stainda.study.proposing import Start
    from stainda.study.starting import Written


def init(
    *,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with slides; it is only read.")],
    pattern: Annotated[
        str | None, typer.Option(help="Names of the slides, see 'stainda manifest scan --help'. Default: guessed.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="Domains that teach, such as PAS@A or 'PAS@*'. Default: most annotated patients.")
    ] = "",
    task: Annotated[
        str | None, typer.Option(help="A name of 'stainda list tasks' or a class. Default: by the classes drawn.")
    ] = None,
    centre: Annotated[str | None, typer.Option(help="Centre of all slides, where names do not tell it.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study. Default: that of the folder.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; nothing is overwritten. Default: studies/NAME.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every proposal without asking.")] = False,
) -> None:
    """Look at a folder of slides and write a manifest, a table of classes and a commented study.

    Says what this cohort can and cannot answer, and which commands come next. Questions are asked on a terminal only.

    Examples:

    - `stainda init slides/`
    - `stainda init slides/ --source 'PAS@*' --task glomeruli_segmentation --out studies/pas --yes`
    """
    from stainda.study.proposing import propose
    from stainda.study.starting import start_files, study_name, write_start

    fixed = {} if centre is None else {"centre": centre}
    title = name or study_name(folder)
    out = out or Path("studies") / title
    start_files(out, title)  # refused before any question
    start = propose(folder, pattern, _domains(source), task, fixed)
    if yes or not _on_a_terminal():
        _show(start)
    else:
        start = _ask_about(
            start,
            lambda pattern, sources, task: propose(folder, pattern, sources, task, fixed),
            _domains(source),
            task,
        )
    _tell(write_start(start, out, title))


def _on_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


Proposing = Callable[[str | None, Sequence[str], str | None], "Start"]
"""Makes a proposal of a pattern, sources and a task."""


def _ask_about(start: Start, propose: Proposing, sources: Sequence[str], task: str | None) -> Start:
    """Show a proposal and ask for its pattern, sources and task; Enter keeps each."""
    start = _ask("Pattern of the names", start.pattern, start, lambda answer: propose(answer, sources, task))
    _show(start)
    pattern = None if start.guessed else start.pattern
    shown, kept = start, ", ".join(start.sources)
    start = _ask("Domains that teach", kept, start, lambda answer: propose(pattern, _domains(answer), task))
    start = _ask("Task", start.task, start, lambda answer: propose(pattern, start.sources, answer))
    if start is not shown:
        _show(start)
    return start


def _ask(question: str, default: str, start: Start, propose: Callable[[str], Start]) -> Start:
    """Ask until the answer can be used: what is wrong with it is reported, and nothing answered before is lost."""
    from stainda.errors import StaindaError

    while True:
        answer = typer.prompt(question, default=default)
        if answer == default:
            return start
        try:
            return propose(answer)
        except StaindaError as error:
            _say(f"{error}")


def _domains(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _show(start: Start) -> None:
    how = "guessed" if start.guessed else "given"
    _say(f"pattern ({how}): {start.pattern}")
    _say(f"{len(start.cohort)} slides of {len(start.cohort.patients)} patients in {len(start.cohort.blocks())} blocks")
    header = ("domain", "role", "patients", "slides", "annotated patients", "shapes")
    show_table("", header, start.domains())
    for split in ("train", "val", "test", "all"):
        inside = start.cohort.where(splits=[split]) if split != "all" else start.cohort
        people = [
            patient for patient in inside.patients if any(s.split == split for s in inside if s.patient == patient)
        ]
        if people:
            _say(f"{split}: {', '.join(people)}")
    _say(f"task: {start.task}")
    if start.unknown_mpp:
        _say(f"note: {len(start.unknown_mpp)} slides do not tell their pixel size: fill the column mpp of the manifest")
    for note in start.notes:
        _say(f"note: {note}")


def _tell(written: Written) -> None:
    _say(f"\nwritten: {written.manifest}, {written.classes}, {written.study}")
    stops = [finding for finding in written.findings if finding.kind == "stops"]
    notes = [finding for finding in written.findings if finding.kind == "note"]
    _say("This study cannot run yet:" if stops else "This study can run. What it cannot answer:")
    for stop in stops or notes:
        _say(f"- {stop}")
    for note in notes if stops else ():
        _say(f"note: {note}")
    if not written.findings:
        _say("- nothing that its patients and annotations would forbid")
    _say("\nnext, when what stops it is mended:" if stops else "\nnext:")
    for command in ("manifest check",) if stops else ("manifest check", "plan", "register", "propagate", "run"):
        _say(f"  stainda {command} {written.study}")


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
