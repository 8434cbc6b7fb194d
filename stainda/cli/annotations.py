"""``stainda annotations``: convert files of annotations, or check one."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stainda.cli.display import console, show_table

if TYPE_CHECKING:
    from stainda.annotations import Contents

app = typer.Typer(
    help="Convert files of annotations between formats, or check one.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

SlideFile = Annotated[
    Path | None, typer.Option("--slide", help="The slide they belong to; some formats cannot be placed without it.")
]
Mpp = Annotated[float | None, typer.Option(help="Micrometres per pixel, where the slide does not say.")]
From = Annotated[str | None, typer.Option("--from", help="Format of the file. Default: look into it.")]
Classes = Annotated[
    Path | None, typer.Option("--classes", metavar="MAP.csv", help="New names of classes, columns 'from' and 'to'.")
]


def _slide(path: Path | None, mpp: float | None) -> Any:
    from stainda.slides import open_slide

    return nullcontext() if path is None else open_slide(path, mpp=mpp)


def _table(path: Path | None) -> dict[str, str] | None:
    from stainda.annotations import read_class_table

    return None if path is None else read_class_table(path)


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
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file of annotations.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    slide: SlideFile = None,
    from_: From = None,
    to: Annotated[str | None, typer.Option("--to", help="Format to write. Default: told by the name of OUT.")] = None,
    classes: Classes = None,
    mpp: Mpp = None,
) -> None:
    """Write annotations in another format; what that format cannot hold is listed. Formats: docs/formats.md.

    Example: `stainda annotations convert asap.xml annotations.geojson --slide slide.svs --classes names.csv`
    """
    from stainda.annotations import convert_annotations

    with _slide(slide, mpp) as frame:
        contents = convert_annotations(source, target, frame, from_, to, _table(classes))
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
) -> None:
    """Say what is in a file of annotations, and what would be mended or dropped when it is used.

    Example: `stainda annotations check annotations.geojson --slide slide.svs`
    """
    from stainda.annotations import inspect_annotations

    with _slide(slide, mpp) as frame:
        contents = inspect_annotations(path, frame, from_, _table(classes))
    _show(path, contents)
