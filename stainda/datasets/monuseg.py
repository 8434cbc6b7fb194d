"""MoNuSeg 2018: nuclei of several organs in H&E from TCGA, outlined in ImageScope's XML.

Layout (public loaders; the masks of a public mirror are read here from the real files)::

    "MoNuSeg 2018 Training Data"/Tissue Images/NAME.tif    …/Annotations/NAME.xml
    MoNuSegTestData/NAME.tif, NAME.xml
    images/NAME.jpg, masks/NAME.jpg                        (a mirror: union masks, touching nuclei merged)

NAME is a TCGA barcode: its second field is the hospital, its first three fields the patient.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.cohort import Split
from stainda.datasets.entry import IMAGES, FoundSlide, Notes, PublicDataset, files_below, folders_of, nothing_found
from stainda.datasets.pixels import binary_objects
from stainda.names import stem

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.annotations.formats.frame import SlideFrame

_BARCODE = re.compile(r"(TCGA-([A-Z0-9]{2})-[A-Z0-9]{4})-.+", re.IGNORECASE)
_MPP = 0.25  # 40x; ImageScope's files state 0.252


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    pictures = [path for path in files_below(folder, *IMAGES) if _BARCODE.fullmatch(stem(path))]
    aside = {path: any(word in path.parent.name.lower() for word in ("mask", "annotation")) for path in pictures}
    images = [path for path in pictures if not aside[path]]
    if not images:
        raise nothing_found(DATASET.title, DATASET.layout, folder)
    outlined = {stem(path): path for path in files_below(folder, ".xml") if _BARCODE.fullmatch(stem(path))}
    masks = {stem(path): path for path in pictures if "mask" in path.parent.name.lower()}
    slides_found = []
    for path in images:
        barcode = _BARCODE.fullmatch(stem(path))
        assert barcode is not None
        shapes = None
        if stem(path) in outlined:
            shapes = functools.partial(_outlines, outlined[stem(path)])
        elif stem(path) in masks:
            shapes = functools.partial(binary_objects, masks[stem(path)], cls="nucleus")
        else:
            notes.tell("missing", f"no outlines {stem(path)}.xml", stem(path))
        slides_found.append(
            FoundSlide(
                stem(path), barcode[1].upper(), stem(path), 1, "HE", barcode[2].upper(), path, mpp=_MPP,
                split=_split(path, folder), shapes=shapes,
            )
        )  # fmt: skip
    for name in sorted(set(outlined) - {section.slide for section in slides_found}):
        notes.tell("missing", f"the image of {outlined[name].name}", name)
    if any(section.slide in masks and section.slide not in outlined for section in slides_found):
        notes.tell("guessed", "shapes: from union masks, in which touching nuclei are one object")
    notes.tell("guessed", f"pixel size: {_MPP} µm, since all images are of 40x")
    notes.tell("guessed", "centre: TCGA's tissue source site; nearly every image is of another one")
    return slides_found


def _split(path: Path, folder: Path) -> Split | None:
    for name in folders_of(path, folder):
        words = name.lower().replace(" ", "")
        if "trainingdata" in words or "testdata" in words:
            return "train" if "trainingdata" in words else "test"
    return None


def _outlines(path: Path, slide: SlideFrame) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    from stainda.annotations.formats import read_annotations

    problems: list[dict[str, str]] = []
    shapes = read_annotations(path, "imagescope", slide, problems=problems)
    return shapes.assign(**{"class": "nucleus"}), problems


DATASET = PublicDataset(
    name="monuseg",
    title="MoNuSeg 2018",
    good_for="nuclei in H&E from many hospitals and organs: how far a nucleus detector transfers between sites; "
    "images of "
    "1000 px, no consecutive sections",
    stains="HE",
    centres="tissue source sites of TCGA (37 training and 14 test images)",
    licence="CC BY-NC-SA 4.0",
    where="monuseg.grand-challenge.org/Data",
    layout="Tissue Images/TCGA-….tif with Annotations/TCGA-….xml, or images/ with masks/",
    checked="public loaders for the XML layout; the masks of the mirror on its 14 test images",
    find=find,
)
