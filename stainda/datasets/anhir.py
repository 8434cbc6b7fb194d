"""ANHIR 2019: the challenge on registration of differently stained sections; landmarks of its training pairs.

Layout (public loaders on GitHub; the archive itself was not at hand)::

    dataset_medium.csv                     columns "Source image", "Source landmarks", "Target image", … , "status"
    SET/scale-PERCENTpc/IMAGE.jpg          in the archive of images
    SET/scale-PERCENTpc/IMAGE.csv          in the archive of landmarks

The sets are blocks; the images lie as in CIMA, and are read as there.
"""

from __future__ import annotations

from pathlib import Path

from stainda.annotations.guarded import read_csv
from stainda.datasets import cima
from stainda.datasets.entry import FoundSlide, Notes, PublicDataset, files_below, plain
from stainda.names import stem

_COLUMNS = ("Source image", "Target image", "Source landmarks", "Target landmarks")


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    slides_found = cima.sections(folder, notes, "ANHIR", DATASET.title, DATASET.layout)
    known = {section.slide for section in slides_found}
    for table in files_below(folder, ".csv"):
        if stem(table).lower().startswith("dataset_"):
            _tell_missing(table, known, notes)
    notes.tell("guessed", "centre: ANHIR collects from several laboratories that its names do not tell")
    notes.tell(
        "guessed",
        "split: empty; the challenge keeps the target landmarks of its evaluation pairs, which are missing here",
    )
    return slides_found


def _tell_missing(table: Path, known: set[str], notes: Notes) -> None:
    header, *rows = read_csv(table)
    places = [header.index(name) for name in _COLUMNS[:2] if name in header]
    named = {row[at].replace("\\", "/") for row in rows for at in places if len(row) > at}
    for name in sorted(named):
        parts = name.split("/")
        slide = plain(f"{parts[0]}_{stem(name)}")
        if slide not in known:
            notes.tell("missing", f"the image {name} of {table.name} is not here", slide)


DATASET = PublicDataset(
    name="anhir",
    title="ANHIR 2019",
    good_for="registration across stains (lung, mammary gland, colon, gastric mucosa, breast, kidney): landmarks of "
    "230 "
    "of 481 pairs; no objects annotated, so nothing to train on",
    stains="HE, PAS, PASM, MAS, SMA, CD31, CD34, CD68, KI67, ER, PR, HER2, CC10, PROSPC, EBV and others (18)",
    centres="several, not recognised by the names",
    licence="not checked: read the terms of the challenge before passing images on",
    where="anhir.grand-challenge.org (registration needed)",
    layout="SET/scale-PERCENTpc/IMAGE.jpg, the landmarks IMAGE.csv in the same or another folder of that name, and "
    "dataset_*.csv",
    checked="public loaders on GitHub (columns of dataset_medium.csv, relative paths); the archive itself was not "
    "checked",
    find=find,
)
