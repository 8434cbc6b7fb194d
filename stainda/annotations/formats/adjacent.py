"""Annotations that lie next to a slide under its name, in any known format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from stainda.annotations.formats.registry import FORMATS, sniff_format
from stainda.annotations.guarded import read_csv
from stainda.errors import AnnotationError
from stainda.names import format_ending, same_name, stem

_FOLDERS = ("annotations", "masks", "labels")
_MARKS = ("_annotations", "_annotation", "-annotations", "_masks", "_mask", "-mask", "_labels")


def annotation_finder() -> Callable[[Path], list[Path]]:
    """A function from a slide's path to the files of annotations of that slide; it lists every folder only once.

    A file belongs to the slide ``NAME.svs`` where it is called ``NAME`` or ``NAME.svs`` (as NDPA is), and to
    ``NAME.ome.tif`` also where it is called ``NAME.ome``; case and Unicode form do not matter; perhaps with
    ``_annotations`` or ``_mask`` behind it, and lies next to the slide or in ``annotations/``, ``masks/`` or
    ``labels/`` there or one folder up. A picture is taken as a mask only where its name or folder says so; a table of
    ``x, y`` only where it also has classes (else it may be landmarks). The best format comes first, in the order of the
    registry.
    """
    listed: dict[Path, dict[str, list[Path]]] = {}

    def files(folder: Path) -> dict[str, list[Path]]:
        if folder not in listed:
            listed[folder] = defaultdict(list)
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.is_file() and not path.name.startswith("."):
                    listed[folder][same_name(stem(path))].append(path)
        return listed[folder]

    def find(slide: Path) -> list[Path]:
        names = [name + mark for name in _names(slide) for mark in ("", *_MARKS)]
        folders = [slide.parent, *(base / name for base in (slide.parent, slide.parent.parent) for name in _FOLDERS)]
        order = list(FORMATS)
        format_of_path: dict[Path, int] = {}
        for folder in folders:
            for name in names:
                for path in files(folder).get(same_name(name), ()):
                    format_name = None if path == slide else _format(path, slide)
                    if format_name is not None:
                        format_of_path.setdefault(path, order.index(format_name))
        return sorted(format_of_path, key=lambda path: format_of_path[path])

    return find


def _names(slide: Path) -> list[str]:
    """What a file of the slide may be called: of ``x.ome.tif``, ``x``, ``x.ome`` and ``x.ome.tif``."""
    short, part = stem(slide), slide.name.rpartition(".")[0]
    return list(dict.fromkeys([short, part or short, slide.name]))


def adjacent_annotations(slide: str | Path) -> list[Path]:
    """The files of annotations of one slide, see :func:`annotation_finder`."""
    return annotation_finder()(Path(slide))


def _format(path: Path, slide: Path) -> str | None:
    """The format of a file that may be the slide's annotations; ``None`` where it is not."""
    try:
        name = sniff_format(path).name
        named_as_annotation = path.parent != slide.parent or same_name(stem(path)) not in map(same_name, _names(slide))
        if name == "mask" and (not named_as_annotation or format_ending(path) == ".zip"):
            return None
        if (
            name == "points"
            and not named_as_annotation
            and "class" not in {cell.strip().lower() for cell in read_csv(path)[0]}
        ):
            return None
    except AnnotationError:
        return None
    return name
