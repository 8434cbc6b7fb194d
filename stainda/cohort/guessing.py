"""Guessing the naming pattern of the slides of a folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stainda import names
from stainda.errors import ManifestError

SLIDE_ENDINGS = (
    ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".czi", ".svslide", ".qptiff", ".dcm",
    ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".ome.btf", ".btf",
)  # fmt: skip
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

SIDE_FOLDERS = frozenset(("annotations", "masks", "labels", "landmarks", "thumbnails", "overlays"))
"""Folders next to slides that hold no slides."""

_MARKS = re.compile(r"[ _-](masks?|labels?|annotations?|thumb(nail)?|overview|macro)$", re.IGNORECASE)
_CENTRE_WORDS = re.compile(
    r"\b(cent(re|er|rum)|hospital|clinic|klinik(um)?|site|lab(oratory|or)?|institut[eo]?|univ\w*|h[oô]pital|uk|umc)\b"
    r"|^(centre|center|site|lab|hospital)",
    re.IGNORECASE,
)
_NO_CENTRES = frozenset(
    ("slides", "slide", "images", "image", "data", "raw", "scans", "wsi", "train", "val", "test", "training",
     "validation", "new", "old", "batch", "he", "ihc")
)  # fmt: skip
_SECTION_PREFIX = re.compile(r"(?:s|sec|section|sl|slice|cut|nr|no)?\d{1,4}", re.IGNORECASE)
_BLOCK = re.compile(r"[A-Za-z]{1,6}\d{0,3}[A-Za-z]?|\d{1,2}[A-Za-z]?")
_ENOUGH = 0.6


@dataclass(frozen=True)
class Guess:
    """A guessed pattern, the files that follow it, and the fields it contains.

    Attributes:
        pattern: as :func:`~stainda.cohort.scan.find_sections` takes it.
        fields: that the pattern tells, in its order.
        follow: how many slides follow it, of ``slides`` that were looked at.
    """

    pattern: str
    fields: tuple[str, ...]
    follow: int
    slides: int


@dataclass(frozen=True)
class _Name:
    """One way to read the names of the files: the column of each field, and the text between columns."""

    columns: tuple[tuple[str, ...], ...]
    between: tuple[str, ...]
    roles: Mapping[int, str]
    files: tuple[Path, ...]


def guess_pattern(folder: str | Path, stains: Iterable[str]) -> Guess:
    """Find the pattern that most slides below a folder follow.

    Names are cut at ``_``, spaces or ``-``. A column of names of stains is the stain, the last column of numbers the
    section, the first that tells slides apart the patient; what lies between patient and section is the block. Folders
    are read as well: stains, patients, and centres (each patient lies in one of several folders).

    Args:
        stains: names that are stains, in any case.

    Raises:
        ManifestError: there is no slide, or no column that could be the patient.
    """
    folder = Path(folder)
    files = slides_below(folder)
    if not files:
        raise ManifestError(
            "there is no slide in this folder", file=folder, remedy=f"Slides end in {', '.join(SLIDE_ENDINGS)}"
        )
    depth, _ = Counter(len(path.relative_to(folder).parts) for path in files).most_common(1)[0]
    level = [path for path in files if len(path.relative_to(folder).parts) == depth]
    known = {_stain_key(name) for name in stains}
    levels = list(zip(*(path.relative_to(folder).parts[:-1] for path in level), strict=True))
    by_folder = any(_known_share(values, known) == 1 for values in levels)
    readings = [
        reading for cut in ("_", " ", "-", "_ -") if (reading := _read_names(level, cut, known, by_folder)) is not None
    ]
    if not readings:
        raise ManifestError(
            f"no pattern could be found in names such as {level[0].name!r}",
            file=folder,
            remedy="Give one, for example --pattern '{patient}_{block}_{section}_{stain}.svs'",
        )
    best = _patient_in_folder(
        max(readings, key=lambda reading: (len(set(reading.roles.values())), len(reading.files))), folder
    )
    parents = _read_folders(folder, best, known)
    stem = "".join(
        f"{_column_text(best, place)}{best.between[place] if place < len(best.between) else ''}"
        for place in range(len(best.columns))
    )
    endings = {names.ending(path) for path in best.files}
    name = stem + (endings.pop() if len(endings) == 1 else ".*")
    has_fields = any(part != "*" for part in parents)
    pattern = "/".join((*parents, name)) if has_fields else name
    fields = tuple(re.findall(r"\{(\w+)\}", pattern))
    if "patient" not in fields:
        raise ManifestError(
            f"no patient could be found in names such as {level[0].relative_to(folder).as_posix()!r}",
            file=folder,
            remedy="Give a pattern, for example --pattern '{patient}_{block}_{section}_{stain}.svs'",
        )
    return Guess(pattern, fields, len(best.files), len(files))


def slides_below(folder: str | Path) -> list[Path]:
    """Files below a folder that may be slides, by their endings; pictures only where there are no slides."""
    files = [
        path
        for path in sorted(Path(folder).rglob("*"))
        if names.ending(path) in (*SLIDE_ENDINGS, *PICTURE_ENDINGS)
        and not path.name.startswith(".")
        and not _MARKS.search(names.stem(path))
        and not any(part.casefold() in SIDE_FOLDERS for part in path.relative_to(folder).parts[:-1])
        and path.is_file()
    ]
    slides = [path for path in files if names.ending(path) in SLIDE_ENDINGS]
    return slides or files


def look_like_centres(patients: Mapping[str, Iterable[str]]) -> bool:
    """Whether folders look like centres: patients by folder, several folders, each patient in one of them.

    Folders of one patient each look like patients, unless they are named like centres.
    """
    folders = list(patients)
    inside = [set(centres) for centres in patients.values()]
    if any(folder.casefold() in _NO_CENTRES or not any(map(str.isalpha, folder)) for folder in folders):
        return False
    if all(_CENTRE_WORDS.search(folder.replace("_", " ")) for folder in folders):
        return True
    apart = sum(map(len, inside)) == len(set().union(*inside))
    return len(folders) > 1 and apart and any(len(centres) > 1 for centres in inside)


def _read_names(files: Sequence[Path], cut: str, known: set[str], stain_told: bool) -> _Name | None:
    """The names cut at some characters, and what the columns are; ``None`` where they have no common shape."""
    divider = re.compile(f"([{re.escape(cut)}]+)")
    shapes = Counter(tuple(divider.split(names.stem(path))[1::2]) for path in files)
    between, count = shapes.most_common(1)[0]
    if count < _ENOUGH * len(files):
        return None
    kept = tuple(path for path in files if tuple(divider.split(names.stem(path))[1::2]) == between)
    columns = tuple(zip(*(divider.split(names.stem(path))[::2] for path in kept), strict=True))
    if any(not cell for column in columns for cell in column):
        return None
    return _Name(columns, between, _roles(columns, known, stain_told), kept)


def _roles(columns: Sequence[Sequence[str]], known: set[str], stain_told: bool) -> dict[int, str]:
    """The field of each column; one without is left out."""
    places = list(range(len(columns)))
    roles: dict[int, str] = {}
    stain = max(places, key=lambda place: (_known_share(columns[place], known), place))
    if _known_share(columns[stain], known) >= _ENOUGH:
        roles[stain] = "stain"
    elif not stain_told and (other := _unknown_stain(columns)) is not None:
        roles[other] = "stain"
    left = [place for place in places if place not in roles]
    varied = [place for place in left if len(set(columns[place])) > 1]
    several = len(set(zip(*(columns[place] for place in left), strict=True))) > 1 if left else False
    centre = _centre_column(columns, varied)
    if centre is not None:
        roles[centre] = "centre"
        left.remove(centre)
        varied.remove(centre)
    if not left:
        return roles
    # a first column that is the same everywhere names the project, unless there is only one patient
    people = [place for place in varied if not _all(_SECTION_PREFIX, columns[place]) or place == varied[0]]
    patient = people[0] if several and people else left[0]
    if several and patient != left[0] and len(varied) == 1 and _all(_SECTION_PREFIX, columns[patient]):
        patient = left[0]  # one patient: only the section tells its slides apart
    roles[patient] = "patient"
    after = [place for place in left if place > patient]
    numbers = [place for place in after if _all(_SECTION_PREFIX, columns[place])]
    if numbers and _prefix(columns[numbers[-1]]) is not None:
        roles[numbers[-1]] = "section"
        after.remove(numbers[-1])
    blocks = [place for place in after if _all(_BLOCK, columns[place])]
    if blocks:
        roles[blocks[0]] = "block"
    return roles


def _centre_column(columns: Sequence[Sequence[str]], varied: Sequence[int]) -> int | None:
    """A first column of words before one of names with digits, each of which goes with one word."""
    if len(varied) < 2:
        return None
    first, second = varied[0], varied[1]
    words, people = columns[first], columns[second]
    if any(any(map(str.isdigit, word)) for word in words) or not all(
        any(map(str.isdigit, person)) for person in people
    ):
        return None
    by_word: dict[str, set[str]] = {}
    for word, person in zip(words, people, strict=True):
        by_word.setdefault(word, set()).add(person)
    return first if look_like_centres(by_word) and second == first + 1 else None


def _unknown_stain(columns: Sequence[Sequence[str]]) -> int | None:
    """The last column of a few words that recur."""
    for place in reversed(range(1, len(columns))):
        values = set(columns[place])
        lettered = all(value[0].isalpha() for value in values)
        if lettered and 2 <= len(values) <= 15 and len(values) <= len(columns[place]) / 2:
            return place
    return None


def _patient_in_folder(name: _Name, folder: Path) -> _Name:
    """Short numbers that recur in folders, of which there are more, are sections, and the folders the patients."""
    numbers = _column_of(name, "patient")
    levels = zip(*(path.relative_to(folder).parts[:-1] for path in name.files), strict=True)
    if "section" in name.roles.values() or not numbers or not _all(_SECTION_PREFIX, numbers):
        return name
    if max((len(set(values)) for values in levels), default=0) <= len(set(numbers)):
        return name
    return replace(name, roles={at: "section" if role == "patient" else role for at, role in name.roles.items()})


def _read_folders(folder: Path, name: _Name, known: set[str]) -> list[str]:
    """What every folder on the way to the slides is, the top one first: a field, or ``*``."""
    assigned = set(name.roles.values())
    levels = list(zip(*(path.relative_to(folder).parts[:-1] for path in name.files), strict=True))
    parents = ["*"] * len(levels)
    for place, values in enumerate(levels):
        if "stain" not in assigned and _known_share(values, known) == 1:
            parents[place] = "{stain}"
            assigned.add("stain")
    open_ = [place for place, part in enumerate(parents) if part == "*"]
    if "patient" not in assigned and open_:
        place = max(open_, key=lambda patient: (len(set(levels[patient])), patient))
        parents[place] = "{patient}"
        open_.remove(place)
        patients: Sequence[str] = levels[place]
    else:
        patients = _column_of(name, "patient")
    if "centre" not in assigned and patients:
        for place in open_:
            by_folder: dict[str, set[str]] = {}
            for value, patient in zip(levels[place], patients, strict=True):
                by_folder.setdefault(value, set()).add(patient)
            if look_like_centres(by_folder):
                parents[place] = "{centre}"
                break
    return parents


def _column_of(name: _Name, role: str) -> Sequence[str]:
    return next((name.columns[place] for place, known_role in name.roles.items() if known_role == role), ())


def _column_text(name: _Name, place: int) -> str:
    values = name.columns[place]
    role = name.roles.get(place)
    if role == "section":
        return f"{_prefix(values) or ''}{{section}}"
    if role is not None:
        return f"{{{role}}}"
    return values[0] if len(set(values)) == 1 else "*"


def _prefix(values: Sequence[str]) -> str | None:
    """The letters before the numbers, where all have the same."""
    prefixes = {re.sub(r"\d+$", "", value) for value in values}
    return prefixes.pop() if len(prefixes) == 1 else None


def _all(expression: re.Pattern[str], values: Sequence[str]) -> bool:
    return all(expression.fullmatch(value) for value in values)


def _known_share(values: Sequence[str], known: set[str]) -> float:
    return sum(_stain_key(value) in known for value in values) / len(values)


def _stain_key(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())
