"""``stainda manifest``: check one, or make one from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import console, show_table

app = typer.Typer(
    help="Check a manifest, or make one from a folder.", no_args_is_help=True, rich_markup_mode="markdown"
)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST.csv")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder that the paths are relative to.")] = None,
) -> None:
    """Check a manifest; every fault is listed with its row and what to do.

    Example: `stainda manifest check data_manifests/rat_kidney.csv --data ../shared/data`
    """
    from stainda.cohort import inspect_manifest, read_manifest

    report = inspect_manifest(path, data)
    for warning in report.warnings:
        console.print(f"note: {warning}", highlight=False, markup=False, soft_wrap=True)
    if report.faults:
        rows = [(fault.row, fault.message, fault.remedy) for fault in report.faults]
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

    Example: `stainda manifest scan slides/ --pattern '{patient}_{block}_{section}_{stain}.svs' --centre A`
    """
    from stainda.cohort import find_sections, write_manifest

    fixed = {"centre": centre, "stain": stain, "scanner": scanner}
    found = find_sections(folder, pattern, **{key: value for key, value in fixed.items() if value is not None})
    write_manifest(found.sections, out)
    console.print(f"{out}: {len(found.sections)} sections", highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for path, reason in found.skipped:
        console.print(f"passed over: {path}: {reason}", highlight=False, markup=False, soft_wrap=True)
