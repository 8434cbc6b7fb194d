"""``stainda manifest``: check one, or make one from a folder or a public data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import console, show_table

app = typer.Typer(
    help="Check a manifest, or make one from a folder or a public data set.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST.csv")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder that the paths are relative to.")] = None,
) -> None:
    """Check a manifest; every fault is listed with its row and what to do.

    On slides whose scanned part begins elsewhere than the slide (MRXS, SCN), annotations and landmarks must lie on
    tissue: the column annotation_origin says where they count from.

    Example: `stainda manifest check data_manifests/rat_kidney.csv --data ../shared/data`
    """
    from stainda.cohort import inspect_manifest, read_manifest
    from stainda.study.origins import check_origins

    report = inspect_manifest(path, data)
    misplaced, doubts = check_origins(report.sections)
    for warning in [*report.warnings, *doubts]:
        console.print(f"note: {warning}", highlight=False, markup=False, soft_wrap=True)
    if report.faults or misplaced:
        rows = [(fault.row, fault.message, fault.remedy) for fault in report.faults] + misplaced
        show_table(f"{path}: {len(rows)} faults", ("row", "what is wrong", "what to do"), rows)
        raise typer.Exit(2)
    cohort = read_manifest(path, data)
    patients = {section.patient for section in cohort}
    console.print(
        f"{path}: {len(cohort)} sections, {len(cohort.blocks())} blocks, {len(patients)} patients, "
        f"domains {', '.join(cohort.domains)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


@app.command()
def scan(
    folder: Annotated[Path, typer.Argument(help="Folder with slides.")],
    pattern: Annotated[
        str, typer.Option(help="File names with {patient} {block} {section} {stain} {centre} {scanner}.")
    ],
    centre: Annotated[str | None, typer.Option(help="Centre of all slides.")] = None,
    stain: Annotated[str | None, typer.Option(help="Stain of all slides.")] = None,
    scanner: Annotated[str | None, typer.Option(help="Scanner of all slides.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The manifest to write.")] = Path("manifest.csv"),
) -> None:
    """Make a manifest from file names; annotations and landmarks with the same name beside a slide are found too.

    Annotations may be of any format that stainda reads, see docs/formats.md.

    Example: `stainda manifest scan slides/ --pattern '{patient}_{block}_{section}_{stain}.svs' --centre A`
    """
    from stainda.annotations.formats import annotation_finder
    from stainda.cohort import find_sections, write_manifest

    fixed = {"centre": centre, "stain": stain, "scanner": scanner}
    told = {key: value for key, value in fixed.items() if value is not None}
    found = find_sections(folder, pattern, annotation_finder(), **told)
    write_manifest(found.sections, out)
    annotated = sum(section.annotations is not None for section in found.sections)
    landmarks = sum(section.landmarks is not None for section in found.sections)
    console.print(
        f"{out}: {len(found.sections)} sections, {annotated} with annotations, {landmarks} with landmarks",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for path, reason in found.skipped:
        console.print(f"passed over: {path}: {reason}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def make(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A public data set, see --list.")] = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="What you downloaded and unpacked; it is only read.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to. Default: ./NAME.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not tell it.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the public data sets and end.")] = False,
) -> None:
    """Turn a public data set that you have downloaded into a manifest with annotations and landmarks.

    What had to be guessed, and what is missing, is listed and written to notes.csv beside the manifest.

    Examples:

    - `stainda manifest make --list`
    - `stainda manifest make hubmap_kidney ~/Downloads/hubmap-kidney-segmentation --out data/hubmap`
    """
    from stainda.cli.display import ConsoleProgress
    from stainda.study.public import NOTE_COLUMNS, make_public_manifest, public_dataset

    if listed:
        _list_public()
        return
    if name is None or folder is None:
        raise typer.BadParameter("give the data set and the folder, or --list")
    dataset = public_dataset(name)
    made = make_public_manifest(name, folder, out or Path(dataset.name), mpp, ConsoleProgress())
    rows = _summed(made.notes)
    show_table(f"{dataset.title}: what you should know", NOTE_COLUMNS, rows)
    console.print(
        f"{made.manifest}: {len(made.sections)} slides, {made.annotated} with annotations ({made.shapes} shapes), "
        f"{made.landmarks} with landmarks; notes: {made.notes_file}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _list_public() -> None:
    from stainda.study.public import DATASETS

    for one in DATASETS.values():
        console.print(f"[bold]{one.name}[/bold]  {one.title}", highlight=False)
        for word in ("good_for", "stains", "centres", "licence", "where", "layout", "checked"):
            label = {"good_for": "good for", "checked": "layout checked against"}.get(word, word)
            console.print(f"  {label}: {getattr(one, word)}", highlight=False, markup=False, soft_wrap=False)
        console.print()


def _summed(notes: tuple[tuple[str, str, str], ...]) -> list[tuple[str, str, str]]:
    """Notes of many slides as one row each: the file has them one by one."""
    general = [row for row in notes if not row[0]]
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for row in notes:
        if row[0]:
            groups.setdefault(row[1], []).append(row)
    few = [row for group in groups.values() if len(group) <= 5 for row in group]
    many = [
        (f"{len({slide for slide, _, _ in group})} slides", kind, f"for example {group[0][0]}: {group[0][2]}")
        for kind, group in groups.items()
        if len(group) > 5
    ]
    return general + few + many
