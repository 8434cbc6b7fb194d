"""What a public data set is here: a description, and a way to find its slides in a folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stainda.errors import ManifestError
from stainda.names import ending, format_ending

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

    from stainda.annotations.formats.frame import SlideFrame
    from stainda.cohort import Split

IMAGES = (".tif", ".tiff", ".svs", ".ndpi", ".png", ".jpg", ".jpeg")
Kind = Literal["layout", "guessed", "missing", "left out", "mended"]

_NOT_IN_NAMES = re.compile(r"[^\w.\-]+", re.ASCII)


@dataclass
class Notes:
    """What a person should know of a made manifest: rows of (slide or "", kind, what)."""

    rows: list[tuple[str, Kind, str]] = field(default_factory=list)

    def tell(self, kind: Kind, what: str, slide: str = "") -> None:
        self.rows.append((slide, kind, what))


@dataclass(frozen=True)
class FoundSlide:
    """One slide of a data set, as its names and tables tell it.

    ``shapes`` reads the annotations once the slide is open and its size known; it returns the shapes in level-0 pixels
    and rows of ``REPAIR_COLUMNS`` for what could not be used. ``None``: the slide is not annotated, which is not the
    same as annotated without an object. ``landmarks`` has the columns ``id, x, y``, level-0 pixels.
    """

    slide: str
    patient: str
    block: str
    section: int
    stain: str
    centre: str
    path: Path
    scanner: str = ""
    mpp: float | None = None
    split: Split | None = None
    shapes: Callable[[SlideFrame], tuple[gpd.GeoDataFrame, list[dict[str, str]]]] | None = None
    landmarks: Callable[[], pd.DataFrame] | None = None


@dataclass(frozen=True)
class PublicDataset:
    """A public data set.

    Attributes:
        name: the word for it on the command line; title: what people call it.
        good_for: what it serves for in this suite, and what it does not.
        stains, centres, licence: as published; ``licence`` says where that was read, or that it must be checked.
        where: where to ask for it.
        layout: the folders and names that are looked for.
        checked: what the layout was checked against, and what could not be checked.
        find: the slides below a folder, with notes on what was guessed or is missing. Raises ManifestError where the
            folder holds nothing of the data set.
    """

    name: str
    title: str
    good_for: str
    stains: str
    centres: str
    licence: str
    where: str
    layout: str
    checked: str
    find: Callable[[Path, Notes], list[FoundSlide]]


def files_below(folder: Path, *suffixes: str) -> Iterator[Path]:
    """Files with one of the endings, in the order of their paths; the leavings of macOS and hidden files are passed."""
    wanted = {suffix.lower() for suffix in suffixes}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if {ending(path), format_ending(path)} & wanted and not hidden and path.is_file():
            yield path


def folders_of(path: Path, folder: Path) -> list[str]:
    """Names of the folders that a file lies in, the innermost first and the one that was given last; those above it are
    not the data set's."""
    return [*reversed(path.relative_to(folder).parts[:-1]), folder.resolve().name]


def plain(text: str) -> str:
    """Text that can name a slide, a block, a file: letters, digits, ``_``, ``-`` and ``.``."""
    return _NOT_IN_NAMES.sub("_", text).strip("._ ") or "unnamed"


def nothing_found(title: str, expected: str, folder: Path) -> ManifestError:
    """The error of a folder that holds nothing of the data set: what was expected, and what is there instead."""
    return ManifestError(
        f"nothing of {title} was found; expected {expected}; found {_what_is_there(folder)}",
        file=folder,
        remedy="Give the folder into which it was unpacked; the layout is in data_manifests/README.md",
    )


def _what_is_there(folder: Path) -> str:
    entries = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    if not entries:
        return "an empty folder"
    endings = Counter(ending(path) or "without ending" for path in files_below(folder, *_all_endings(folder)))
    kinds = ", ".join(f"{count} {kind}" for kind, count in endings.most_common(4)) or "no file"
    more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
    return f"{', '.join(entries[:5])}{more} ({kinds})"


def _all_endings(folder: Path) -> Iterable[str]:
    return {ending(path) for path in folder.rglob("*") if path.is_file()}
