"""``stainda init``: a first study from a folder of slides."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.display import console, show_table

if TYPE_CHECKING:
    from stainda.study.starting import Start, Written


def init(
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
    - `stainda init slides/ --source 'PAS@*' --task glomeruli_segmentation --out studies/mine --yes`
    """
    from stainda.study.starting import propose, study_name, write_start

    fixed = {} if centre is None else {"centre": centre}
    sources = tuple(word.strip() for word in source.split(",") if word.strip())
    start = propose(folder, pattern, sources, task, fixed)
    asking = not yes and sys.stdin.isatty() and sys.stdout.isatty()
    if asking:
        asked = typer.prompt("Pattern of the names", default=start.pattern)
        if asked != start.pattern:
            pattern, start = asked, propose(folder, asked, sources, task, fixed)
    _show(start)
    if asking:
        taught = typer.prompt("Domains that teach", default=", ".join(start.sources))
        found = typer.prompt("Task", default=start.task)
        if (taught, found) != (", ".join(start.sources), start.task):
            words = tuple(word.strip() for word in taught.split(",") if word.strip())
            start = propose(folder, pattern, words, found, fixed)
            _show(start)
    title = name or study_name(folder)
    _tell(write_start(start, out or Path("studies") / title, title))


def _show(start: Start) -> None:
    how = "guessed" if start.guessed else "given"
    _say(f"pattern ({how}): {start.pattern}")
    _say(f"{len(start.cohort)} slides of {len(start.cohort.patients)} patients in {len(start.cohort.blocks())} blocks")
    header = ("domain", "role", "patients", "slides", "annotated patients", "shapes")
    show_table("", header, start.domains())
    for split in ("train", "val", "test", "all"):
        inside = start.cohort.where(splits=[split]) if split != "all" else start.cohort
        people = [one for one in inside.patients if any(s.split == split for s in inside if s.patient == one)]
        if people:
            _say(f"{split}: {', '.join(people)}")
    _say(f"task: {start.task}")
    if start.unknown_mpp:
        _say(f"note: {len(start.unknown_mpp)} slides do not tell their pixel size: fill the column mpp of the manifest")
    for note in start.notes:
        _say(f"note: {note}")


def _tell(written: Written) -> None:
    _say(f"\nwritten: {written.manifest}, {written.classes}, {written.study}")
    stops = [one for one in written.findings if one.kind == "stops"]
    _say("This study cannot run yet:" if stops else "This study can run. What it cannot answer:")
    for one in written.findings:
        _say(f"- {one}")
    if not written.findings:
        _say("- nothing that its patients and annotations would forbid")
    _say("\nnext:")
    for command in ("manifest check", "plan", "register", "propagate", "run"):
        _say(f"  stainda {command} {written.study}")


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
