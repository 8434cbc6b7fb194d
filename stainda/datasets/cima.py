"""CIMA histology: differently stained sections of lung and mammary gland, with landmarks.

Layout (README of github.com/Borda/dataset-histology-landmarks, and the sample of it in BIRL)::

    SET/scale-PERCENTpc/IMAGE.jpg    SET/scale-PERCENTpc/IMAGE.csv    (",X,Y", pixels of that scale)

The images and the landmarks are downloaded separately; both may lie anywhere below the folder. Landmarks of single
annotators (``user-…``) are left out: those next to the images are their consensus.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.datasets.entry import IMAGES, FoundSlide, Notes, PublicDataset, files_below, nothing_found, plain
from stainda.names import stem

if TYPE_CHECKING:
    import pandas as pd

# as they stand in file names; the order decides where one contains another
DYES = {
    "PROSPC": "PROSPC", "SPC": "PROSPC", "HER2": "HER2", "CNEU": "NEU", "NEU": "NEU", "CC10": "CC10", "KI67": "KI67",
    "CD1A": "CD1A", "CD31": "CD31", "CD34": "CD34", "CD68": "CD68", "CD4": "CD4", "CD8": "CD8", "PANCK": "PANCK",
    "PANCYTOKERATIN": "PANCK", "PODOCIN": "PODOCIN", "MAS": "MAS", "PASM": "PASM", "PAS": "PAS", "SMA": "SMA",
    "EBV": "EBV", "ER": "ER", "PR": "PR", "HE": "HE",
}  # fmt: skip
_SCALE = re.compile(r"scale-(\d+)pc", re.IGNORECASE)
_ANIMAL = re.compile(r"(?:^|_)(\d{2}-\d{3})(?=-)|[-_](A\d{4}-\w+)")


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    """The sections of every set at the finest scale that is there."""
    return sections(folder, notes, "CIMA", DATASET.title, DATASET.layout)


def sections(folder: Path, notes: Notes, centre: str, title: str, layout: str) -> list[FoundSlide]:
    """Sections laid out as above; CIMA and ANHIR share their makers and their names."""
    sets: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in files_below(folder, *IMAGES):
        scale = _SCALE.fullmatch(path.parent.name)
        if scale:
            sets[path.parent.parent.name][int(scale[1])].append(path)
    if not sets:
        raise nothing_found(title, layout, folder)
    points = _landmarks(folder)
    slides_found: list[FoundSlide] = []
    for name, scales in sorted(sets.items()):
        finest = max(scales)
        if len(scales) > 1:
            notes.tell("left out", f"{name}: of the scales {sorted(scales)} % only {finest} % is used")
        slides_found += _block(name, finest, scales[finest], points, centre, notes)
    notes.tell("guessed", "section: in the order of the numbers next to the stain in the names, else of the names")
    notes.tell("guessed", "patient: the animal's number in the names where there is one, else the set")
    return slides_found


def _block(
    name: str, scale: int, images: list[Path], points: dict[tuple[str, str, str], Path], centre: str, notes: Notes
) -> list[FoundSlide]:
    read = [(path, *stain_of(stem(path))) for path in images]
    animals = Counter(animal for path in images if (animal := _animal(stem(path))))
    patient = animals.most_common(1)[0][0] if animals else name
    ordered = sorted(read, key=lambda row: (row[2] if row[2] is not None else -1, row[0].name))
    slides_found = []
    for number, (path, stain, _) in enumerate(ordered, start=1):
        slide = plain(f"{name}_{stem(path)}")
        if stain is None:
            notes.tell("guessed", f"stain: the name {path.name!r} tells none that is known", slide)
        file = points.get((name.lower(), path.parent.name.lower(), stem(path).lower()))
        if file is None:
            notes.tell("missing", f"no landmarks {stem(path)}.csv at {scale} %", slide)
        slides_found.append(
            FoundSlide(
                slide, plain(patient), plain(name), number, stain or plain(stem(path)).upper(), centre, path,
                landmarks=None if file is None else functools.partial(_read, file),
            )
        )  # fmt: skip
    return slides_found


def _animal(base: str) -> str | None:
    match = _ANIMAL.search(base)
    return next((group for group in match.groups() if group), None) if match else None


def stain_of(base: str) -> tuple[str | None, int | None]:
    """The stain a file name tells, and the number of one or two digits just before or behind it."""
    words = [word for word in re.split(r"[-_ .]+", base.upper().replace("PRO-SPC", "PROSPC")) if word]
    for at, word in enumerate(words):
        dye = DYES.get(word) or DYES.get(re.sub(r"^(?:ANTI)?|(?:LES\d)?$", "", word))
        if dye:
            before = words[at - 1] if at else ""
            behind = words[at + 1] if at + 1 < len(words) else ""
            number = next((int(word) for word in (before, behind) if word.isdigit() and len(word) <= 2), None)
            return dye, number
    return None, None


def _landmarks(folder: Path) -> dict[tuple[str, str, str], Path]:
    """Landmark files by set, scale folder and name; ``NAME_landmarks.csv`` counts as ``NAME.csv``."""
    files = {}
    for path in files_below(folder, ".csv"):
        if _SCALE.fullmatch(path.parent.name):
            base = stem(path).lower().removesuffix("_landmarks")
            files[path.parent.parent.name.lower(), path.parent.name.lower(), base] = path
    return files


def _read(path: Path) -> pd.DataFrame:
    from stainda.annotations import read_landmarks

    return read_landmarks(path)


DATASET = PublicDataset(
    name="cima",
    title="CIMA histology landmarks",
    good_for="registration: about 80 landmarks per section, sets of up to 5 consecutive sections; no objects "
    "annotated, "
    "so nothing to train on",
    stains="HE, CC10, CD31, KI67, PROSPC (lung); HE, ER, PR, NEU (mammary gland)",
    centres="CIMA, Pamplona (one)",
    licence="none stated with the landmarks: ask before passing images on",
    where="images: cmp.felk.cvut.cz/~borovji3/?page=dataset; landmarks: github.com/Borda/dataset-histology-landmarks",
    layout="SET/scale-PERCENTpc/IMAGE.jpg with IMAGE.csv of the same scale",
    checked="the README and file list of github.com/Borda/dataset-histology-landmarks, and the rat kidney pair of BIRL",
    find=find,
)
