"""``stainda annotations``: convert files of annotations, check one, or fuse those of several annotators."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stainda.cli.display import ConsoleProgress, Quiet, console, show_table

if TYPE_CHECKING:
    from stainda.annotations import ClassMap, Contents, Fusion

app = typer.Typer(
    help="Convert files of annotations between formats, check one, or fuse those of several annotators.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

SlideFile = Annotated[
    Path | None, typer.Option("--slide", help="The slide they belong to; some formats cannot be placed without it.")
]
Mpp = Annotated[float | None, typer.Option(help="Micrometres per pixel, where the slide does not say.")]
FromOrigin = Annotated[
    str,
    typer.Option(
        "--origin",
        help="Where the coordinates of the file begin: bounds (the corner of the scanned part, as QuPath counts), "
        "level0 (that of the slide, as QuPath counts with --no-crop), or auto: as the file or its format says.",
    ),
]
From = Annotated[str | None, typer.Option("--from", help="Format of the file. Default: look into it.")]
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="MAP.csv",
        help="New names of classes, columns 'from' and 'to'; 'ignore' and 'drop' are understood.",
    ),
]


def _slide(path: Path | None, mpp: float | None) -> Any:
    if path is None:
        return nullcontext()
    from stainda.slides import open_slide

    return open_slide(path, mpp=mpp)


def _table(path: Path | None) -> ClassMap | None:
    if path is None:
        return None
    from stainda.annotations import read_class_table

    return read_class_table(path)


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _show(path: Path, contents: Contents) -> None:
    from stainda.annotations import CHANGE_COLUMNS, CLASS_COLUMNS

    _say(f"{path}: {contents.title}, {contents.count} shapes")
    show_table("", CLASS_COLUMNS, contents.classes)
    if contents.changes:
        show_table("mended, dropped or unexpected", CHANGE_COLUMNS, contents.changes)


@app.command()
def convert(
    *,
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file of annotations.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    slide: SlideFile = None,
    from_: From = None,
    to: Annotated[str | None, typer.Option("--to", help="Format to write. Default: by the name of OUT.")] = None,
    classes: Classes = None,
    mpp: Mpp = None,
    origin: FromOrigin = "auto",
    to_origin: Annotated[
        str, typer.Option("--to-origin", help="The same of OUT. Default: as the programs of its format count.")
    ] = "auto",
) -> None:
    """Write annotations in another format; what that format cannot hold is listed. Formats: docs/reference/formats.md.

    Of slides whose scanned part begins elsewhere than the slide (MRXS, SCN), give `--slide`.

    Examples:

    - `stainda annotations convert asap.xml annotations.geojson --slide slide.svs --classes names.csv`
    - `stainda annotations convert qupath.geojson asap.xml --slide slide.mrxs`
    - `stainda annotations convert asap.xml no_crop.geojson --slide slide.mrxs --to-origin level0`
    """
    from stainda.annotations import as_origin, convert_annotations

    with _slide(slide, mpp) as frame:
        contents = convert_annotations(
            source, target, frame, source_format=from_, target_format=to, classes=_table(classes),
            origin=as_origin(origin), target_origin=as_origin(to_origin),
        )  # fmt: skip
    _show(source, contents)
    for sentence in contents.lost:
        _say(f"lost: {sentence}")
    _say(f"written: {target}")


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file of annotations.")],
    slide: SlideFile = None,
    from_: From = None,
    classes: Classes = None,
    mpp: Mpp = None,
    origin: FromOrigin = "auto",
) -> None:
    """Say what is in a file of annotations, and what would be mended or dropped when it is used.

    With `--slide` it is also checked where the coordinates begin: shapes that lie on glass as they are read, and on
    tissue if they are read from the other origin, are an error.

    Examples:

    - `stainda annotations check annotations.geojson --slide slide.svs`
    - `stainda annotations check no_crop.geojson --slide slide.mrxs --origin level0`
    """
    from stainda.annotations import as_origin, inspect_annotations

    with _slide(slide, mpp) as frame:
        contents = inspect_annotations(path, frame, from_, _table(classes), as_origin(origin))
    _show(path, contents)


@app.command()
def fuse(
    *,
    sources: Annotated[list[Path], typer.Argument(metavar="FILE", help="One file per annotator, of any format.")],
    method: Annotated[str, typer.Option(help="majority, staple or weighted (by reliability).")] = "majority",
    out: Annotated[Path, typer.Option("--out", help="The GeoJSON to write; tables appear next to it.")] = Path(
        "fused.geojson"
    ),
    slide: SlideFile = None,
    classes: Classes = None,
    reliability: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE.csv",
            help="For weighted: columns annotator, reliability (0 to 1), or annotator, training, qualification "
            "(accuracies). Default: each one's mean Dice with the others.",
        ),
    ] = None,
    resolution: Annotated[
        float, typer.Option(help="Corners are moved to a grid this fine, in level-0 pixels; finer slivers vanish.")
    ] = 0.25,
    radius: Annotated[float | None, typer.Option(help="Points take part as discs of this radius, in pixels.")] = None,
    apart: Annotated[bool, typer.Option("--apart", help="Accept files whose shapes lie far from all others.")] = False,
    mpp: Mpp = None,
    origin: FromOrigin = "auto",
    quiet: Quiet = False,
) -> None:
    """Make one set of shapes from those of several annotators; what a minority drew is kept too.

    See docs/howto/fusion.md.

    Written are OUT, OUT_dissent.geojson (objects that did not win, and who drew them), OUT_annotators.csv (sensitivity,
    specificity, and objects found, of each) and OUT_agreement.csv (Dice and kappa of each pair).

    Examples:

    - `stainda annotations fuse alice.geojson bob.xml carol.json --method staple --slide slide.svs`
    - `stainda annotations fuse alice/S1.xml bob/S1.xml --method weighted --reliability table.csv --out S1.geojson`
    """
    from stainda.annotations import (
        Rules,
        as_origin,
        bounds_of,
        check_out,
        fuse_files,
        read_reliability,
        write_fusion,
    )

    check_out(out)
    rules = Rules(
        method,  # type: ignore[arg-type]  # a wrong word is reported with the nearest right one
        None if reliability is None else read_reliability(reliability),
        resolution,
        radius,
    )
    with _slide(slide, mpp) as frame:
        fusion, changes = fuse_files(
            sources,
            frame,
            rules,
            _table(classes),
            apart=apart,
            origin=as_origin(origin),
            progress=ConsoleProgress(quiet),
        )
        bounds = None if origin == "level0" else bounds_of(frame)
    written = write_fusion(fusion, out, bounds)
    if not quiet:
        _show_fusion(fusion, changes)
        for path in written.values():
            _say(f"written: {path}")


def _show_fusion(fusion: Fusion, changes: list[dict[str, str]]) -> None:
    from stainda.annotations import CHANGE_COLUMNS, PAIR_COLUMNS, group_changes

    kept, apart = fusion.shapes["class"].value_counts(), fusion.dissent["class"].value_counts()
    rows = [(cls or "(none)", kept.get(cls, 0), apart.get(cls, 0)) for cls in sorted({*kept.index, *apart.index})]
    show_table("objects", ("class", "fused", "dissent"), rows)
    shown = {
        "annotator": "annotator", "class": "class", "objects": "drawn", "object_recall": "found",
        "object_precision": "right", "sensitivity": "sensitivity", "specificity": "specificity", "weight": "weight",
    }  # fmt: skip
    show_table("annotators", list(shown.values()), [[row[key] for key in shown] for row in fusion.annotators])
    show_table(
        "agreement",
        [name.replace("_", " ") for name in PAIR_COLUMNS],
        [[r.get(n) for n in PAIR_COLUMNS] for r in fusion.agreement],
    )
    if changes:
        show_table("mended, dropped or unexpected", CHANGE_COLUMNS, group_changes(changes))
    for note in fusion.notes:
        _say(
            f"left out: {note['shapes']} shapes of {note['class'] or 'no class'} by {note['annotator']}: {note['note']}"
        )
