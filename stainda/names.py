"""Names of files: the ending of a path, the name before it, and a file name for any text."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from stainda.files import stable_hash

COMPOUND_ENDINGS = (
    ".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf", ".ome.zarr", ".nii.gz",
    ".geojson.gz", ".json.gz", ".csv.gz", ".tsv.gz", ".xml.gz", ".tar.gz", ".geojson.zip", ".json.zip",
)  # fmt: skip
"""Endings of two parts that are one: QuPath calls ``x.ome.tif`` ``x``, as it does ``x.tif``."""

MOST_CHARACTERS = 120
"""The longest file name that :func:`file_name` makes, so that an ending and a prefix still fit into 255 bytes."""

# Windows opens devices under these names, with any ending
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_KEPT = re.compile(r"[^A-Za-z0-9_.@+ -]")


def ending(path: str | Path) -> str:
    """The ending of a file's name in lower case with its dot, ``""`` where it has none.

    >>> ending("a/B1.OME.TIF"), ending("B1.svs"), ending("labels.geojson.gz"), ending(".hidden")
    ('.ome.tif', '.svs', '.geojson.gz', '')
    """
    name = Path(path).name
    lower = name.lower()
    compound = next((known for known in COMPOUND_ENDINGS if lower.endswith(known) and len(lower) > len(known)), None)
    return compound or Path(name).suffix.lower()


def format_ending(path: str | Path) -> str:
    """The part of :func:`ending` that tells how the file is written.

    >>> format_ending("B1.ome.tif"), format_ending("B1.geojson.gz"), format_ending("B1.svs")
    ('.tif', '.geojson', '.svs')
    """
    whole = ending(path)
    return whole if whole == ".gz" else Path("x" + whole.removesuffix(".gz")).suffix


def stem(path: str | Path) -> str:
    """The name of a file without its ending, as QuPath names an image.

    >>> stem("a/B1.ome.tif"), stem("B1.svs"), stem("B1_2.5um.svs")
    ('B1', 'B1', 'B1_2.5um')
    """
    name = Path(path).name
    return name[: len(name) - len(ending(name))]


def with_ending(path: str | Path, new: str) -> Path:
    """The path with another ending; ``new`` has its dot.

    >>> with_ending("a/B1.ome.tif", ".geojson").as_posix()
    'a/B1.geojson'
    """
    path = Path(path)
    return path.with_name(stem(path) + new)


def file_name(name: str) -> str:
    """A text as the name of a file without ending; different texts get different names.

    Letters, digits, space and ``_ . @ + -`` are kept. A text with anything else, one that is empty or longer than
    :data:`MOST_CHARACTERS`, one that starts with a dot or an underscore, one that ends with a dot or a space, and one
    that Windows reserves gets a hash of the whole text. Texts that differ only in case get names that differ only in
    case: see :func:`file_names` for disks that do not tell these apart.

    >>> file_name("P01_B1_03_PAS")
    'P01_B1_03_PAS'
    >>> file_name("A/1") != file_name("A_1")
    True
    """
    plain = _KEPT.sub("_", name)
    as_it_is = plain == name and 0 < len(name) <= MOST_CHARACTERS and name[0] not in "._ " and name[-1] not in ". "
    if as_it_is and not _RESERVED.fullmatch(name):
        return name
    # a name that is kept never starts with an underscore, so a hashed one cannot equal it
    return f"_{plain[: MOST_CHARACTERS - 14].rstrip('. ')}-{stable_hash(name, 12)}"


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A file name for each text, different also where the disk does not tell upper from lower case.

    >>> sorted(len(one) for one in file_names(["PAS", "pas", "SR"]).values())
    [2, 17, 17]
    """
    titles = {name: file_name(name) for name in names}
    count = Counter(title.casefold() for title in titles.values())
    hashed = {name: f"_{titles[name].lstrip('_')[: MOST_CHARACTERS - 14]}-{stable_hash(name, 12)}" for name in titles}
    return {name: title if count[title.casefold()] == 1 else hashed[name] for name, title in titles.items()}


def joined_name(*parts: str) -> str:
    """Several texts as one file name, ``__`` between them; other texts, or the same divided otherwise, get another.

    >>> joined_name("B1", "HE", "PAS")
    'B1__HE__PAS'
    >>> joined_name("a__b", "c") == joined_name("a", "b__c")
    False
    """
    names = [file_name(part) for part in parts]
    whole = "__".join(names)
    divided = any("__" in name or name.endswith("_") for name in names)
    if not divided and len(whole) <= MOST_CHARACTERS:
        return whole
    # ``__`` alone cannot tell where a part ends; no part that is kept starts with an underscore, as this does
    return f"_{whole[: MOST_CHARACTERS - 14].lstrip('_').rstrip('. ')}-{stable_hash(list(parts), 12)}"


def same_name(name: str) -> str:
    """A key that is equal for texts a person or a disk takes for the same: composed letters, case and spaces folded.

    >>> same_name("Mu\\u0308ller  A") == same_name("M\\u00fcller a")
    True
    """
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def is_file(path: str | Path) -> bool:
    """Whether a file of this name is there; a name that no file system takes (too long) is none, and no error."""
    return os.path.isfile(path)  # noqa: PTH113


def is_there(path: str | Path) -> bool:
    """As :func:`is_file`, of a file or a folder."""
    return os.path.exists(path)  # noqa: PTH110


def existing(path: str | Path) -> Path:
    """The path as it is on disk where only its Unicode form differs (``ü`` as one letter or as two); else the path.

    macOS writes file names decomposed, a spreadsheet composes them; they look the same.
    """
    path = Path(path)
    if is_there(path) or str(path).isascii():
        return path
    for form in ("NFC", "NFD"):
        other = Path(unicodedata.normalize(form, str(path)))
        if is_there(other):
            return other
    resolved = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:  # folder and file may be of different forms
        direct = resolved / part
        if not is_there(direct) and resolved.is_dir() and not part.isascii():
            wanted = unicodedata.normalize("NFC", part)
            direct = next(
                (file for file in resolved.iterdir() if unicodedata.normalize("NFC", file.name) == wanted), direct
            )
        resolved = direct
    return resolved if is_there(resolved) else path
