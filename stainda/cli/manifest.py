"""``stainda manifest``: check one, or make one from a folder or a public data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.display import console, show_table

if TYPE_CHECKING:
    from stainda.config import StudyConfig

app = typer.Typer(
    help="Check a manifest, or make one from a folder or a public data set.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST.csv|STUDY.yaml")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder that the paths are relative to.")] = None,
) -> None:
    """Check a manifest; every fault is listed with its row and what to do.

    Of a study, its manifest is checked and what the study cannot use or answer is said: classes, patients, annotations,
    pixel sizes. On slides whose scanned part begins elsewhere than the slide (MRXS, SCN), annotations and landmarks
    must lie on tissue: the column annotation_origin says where they count from.

    Examples:

    - `stainda manifest check data_manifests/rat_kidney.csv --data ../shared/data`
    - `stainda manifest check studies/rat_kidney.yaml --data ../shared/data`
    """
    from stainda.cohort import inspect_manifest, read_manifest
    from stainda.study.inputs import is_study
    from stainda.study.origins import check_origins

    config = None
    if is_study(path):
        from stainda.config import load_study

        config = load_study(path, data=data)
        if config.phantom is not None:
            _show_findings(path, config)
            return
        assert config.manifest is not None
        path, data = config.manifest, config.data
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
    if config is not None:
        _show_findings(path, config)


def _show_findings(path: Path, config: StudyConfig) -> None:
    """What stops a study, and what it cannot answer."""
    from stainda.study.answerable import check_study

    findings = check_study(config)
    stops = [finding for finding in findings if finding.kind == "stops"]
    if stops:
        show_table(
            f"{config.study}: it cannot run",
            ("what stops it", "what to do"),
            [(stop.message, stop.remedy) for stop in stops],
        )
    for finding in findings:
        if finding.kind == "note":
            console.print(f"note: {finding}", highlight=False, markup=False, soft_wrap=True)
    if stops:
        raise typer.Exit(2)
    console.print(f"{config.study}: this study can run", highlight=False, soft_wrap=True)


@app.command()
def scan(
    *,
    folder: Annotated[Path, typer.Argument(help="Folder with slides.")],
    pattern: Annotated[
        str | None,
        typer.Option(
            help="File names with {patient} {block} {section} {stain} {centre} {scanner}; default: guessed, and shown."
        ),
    ] = None,
    centre: Annotated[str | None, typer.Option(help="Centre of all slides.")] = None,
    stain: Annotated[str | None, typer.Option(help="Stain of all slides.")] = None,
    scanner: Annotated[str | None, typer.Option(help="Scanner of all slides.")] = None,
    one_centre: Annotated[
        bool, typer.Option("--one-centre", help="The folders are no centres, although they look like it.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="The manifest to write.")] = Path("manifest.csv"),
) -> None:
    """Make a manifest from file names; annotations and landmarks with the same name next to a slide are found too.

    Annotations may be of any format that stainda reads, see docs/reference/formats.md. A block that several patients
    have is named by patient.

    Examples:

    - `stainda manifest scan slides/`
    - `stainda manifest scan slides/ --pattern '{patient}_{block}_{section}_{stain}.svs' --centre A`
    - `stainda manifest scan slides/ --pattern '{centre}/{patient}_{block}_{section}_{stain}.tif'`
    """
    from stainda.cohort import write_manifest
    from stainda.study.proposing import scan as scan_slides

    fixed = {"centre": centre, "stain": stain, "scanner": scanner}
    constants = {key: value for key, value in fixed.items() if value is not None}
    sections, pattern, guess = scan_slides(folder, pattern, constants, one_centre)
    if guess is not None:
        console.print(
            f"pattern (guessed): {pattern} ({guess.follow} of {guess.slides} slides)",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    write_manifest(sections.sections, out)
    annotated = sum(section.annotations is not None for section in sections.sections)
    landmarks = sum(section.landmarks is not None for section in sections.sections)
    console.print(
        f"{out}: {len(sections.sections)} sections, {annotated} with annotations, {landmarks} with landmarks",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for note in sections.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for path, reason in sections.skipped:
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

    What had to be guessed, and what is missing, is listed and written to notes.csv next to the manifest.

    Examples:

    - `stainda manifest make --list`
    - `stainda manifest make hubmap_kidney ~/Downloads/hubmap-kidney-segmentation --out data/hubmap`
    """
    from stainda.cli.display import ConsoleProgress
    from stainda.datasets import NOTE_COLUMNS, make_public_manifest, public_dataset

    if listed:
        _list_public()
        return
    if name is None or folder is None:
        raise typer.BadParameter("give the data set and the folder, or --list")
    dataset = public_dataset(name)
    prepared = make_public_manifest(name, folder, out or Path(dataset.name), mpp, ConsoleProgress())
    rows = _summed(prepared.notes)
    show_table(f"{dataset.title}: what you should know", NOTE_COLUMNS, rows)
    console.print(
        f"{prepared.manifest}: {len(prepared.sections)} slides, {prepared.annotated} with annotations "
        f"({prepared.shapes} shapes), {prepared.landmarks} with landmarks; notes: {prepared.notes_file}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


@app.command()
def pseudonymise(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST.csv")],
    *,
    out: Annotated[Path, typer.Option("--out", help="A new folder, for the new manifest and its files.")],
    key: Annotated[Path, typer.Option("--key", help="CSV of names and codes; continued where it is there.")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder that the paths are relative to.")] = None,
    centres: Annotated[bool, typer.Option("--centres", help="Replace the names of centres, too.")] = False,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column of your own that names nobody; others are left out.")
    ] = None,
) -> None:
    """Write a manifest with codes instead of the names of patients, blocks and slides, and files named by them.

    Runs, pages and reports made from it show codes only. Files are hard links where they can be, else copies; their
    content is not changed: label and macro images, and names in a slide's own metadata or in annotations, stay in them.

    Examples:

    - `stainda manifest pseudonymise data_manifests/rat_kidney.csv --data ../shared/data --out coded --key key.csv`
    """
    from stainda.cohort import pseudonymise as write_codes
    from stainda.cohort import read_manifest

    written = write_codes(read_manifest(path, data), out, key, centres=centres, keep=keep or ())
    console.print(f"{written.manifest}: names and codes are in {written.key}, which is not to be passed on",
                  highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    if written.left_out:
        console.print(f"note: columns left out: {', '.join(written.left_out)}; --keep NAME keeps one",
                      highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    console.print("note: label images, macro images and metadata stay in the slides; take them out with the scanner's "
                  "own tools before files leave the house", highlight=False, markup=False, soft_wrap=True)  # fmt: skip


def _list_public() -> None:
    from stainda.datasets import DATASETS

    for dataset in DATASETS.values():
        console.print(f"[bold]{dataset.name}[/bold]  {dataset.title}", highlight=False)
        for word in ("good_for", "stains", "centres", "licence", "where", "layout", "checked"):
            label = {"good_for": "good for", "checked": "layout checked against"}.get(word, word)
            console.print(f"  {label}: {getattr(dataset, word)}", highlight=False, markup=False, soft_wrap=False)
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
