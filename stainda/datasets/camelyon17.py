"""CAMELYON17: lymph nodes in H&E from five Dutch centres, lesions of 50 slides outlined in ASAP's XML.

Layout (README of the data set; mirror lists of it)::

    images/patient_PPP_node_N.tif    annotations/patient_PPP_node_N.xml    masks/…_mask.tif    stages.csv
    training/center_C/patient_PPP_node_N.tif    training/lesion_annotations/patient_PPP_node_N.xml   (older)

Patients 000 to 099 are the training set, 20 of each centre in order. A slide staged ``negative`` is annotated: it has
no lesion. Areas of the group ``normal`` are holes in the lesions around them.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.annotations.guarded import read_csv
from stainda.datasets.entry import FoundSlide, Notes, PublicDataset, files_below, folders_of, nothing_found
from stainda.names import stem

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.annotations.formats.frame import SlideFrame

_NAME = re.compile(r"(patient_(\d{3}))_node_(\d)")
_CENTRE = re.compile(r"cent(?:er|re)_(\d)", re.IGNORECASE)
_PATIENTS_PER_CENTRE, _TRAINING_PATIENTS = 20, 100


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    slides = {stem(path): path for path in files_below(folder, ".tif", ".tiff") if _NAME.fullmatch(stem(path))}
    if not slides:
        raise nothing_found(DATASET.title, DATASET.layout, folder)
    outlined = {stem(path): path for path in files_below(folder, ".xml") if _NAME.fullmatch(stem(path))}
    negative = _negative(folder)
    slides_found = []
    for name, path in sorted(slides.items()):
        match = _NAME.fullmatch(name)
        assert match is not None
        shapes = functools.partial(_lesions, outlined[name]) if name in outlined else None
        if shapes is None and name in negative:
            shapes = functools.partial(_no_lesions)
        slides_found.append(
            FoundSlide(name, match[1], name, 1, "HE", _centre(path, folder, int(match[2])), path, shapes=shapes)
        )
    for name in sorted(set(outlined) - set(slides)):
        notes.tell("missing", f"the slide {name}.tif of {outlined[name].name}", name)
    without = sum(slide.shapes is None for slide in slides_found)
    if without:
        notes.tell(
            "missing", f"no outlines of {without} slides: only 50 slides are outlined, and negative ones need none"
        )
    if any(section.centre == "unknown" for section in slides_found):
        notes.tell(
            "guessed", "centre: unknown for the patients of the test set (100 to 199), whose order is not published"
        )
    notes.tell("guessed", "centre: 20 training patients each, in order, where no folder center_C tells it")
    notes.tell(
        "guessed", "block: every slide is one of its own; the five nodes of a patient are not consecutive sections"
    )
    notes.tell("guessed", "split: empty, drawn by patient; the published test set has no lesions outlined")
    return slides_found


def _centre(path: Path, folder: Path, patient: int) -> str:
    number = next((match[1] for name in folders_of(path, folder) if (match := _CENTRE.fullmatch(name))), None)
    if number is not None:
        return f"centre_{number}"
    return f"centre_{patient // _PATIENTS_PER_CENTRE}" if patient < _TRAINING_PATIENTS else "unknown"


def _negative(folder: Path) -> set[str]:
    for path in files_below(folder, ".csv"):
        if stem(path).lower() in ("stages", "stage_labels"):
            return {stem(row[0]) for row in read_csv(path) if len(row) > 1 and row[1].strip().lower() == "negative"}
    return set()


def _no_lesions(slide: SlideFrame) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    from stainda.annotations import empty_shapes

    return empty_shapes(), []


def _lesions(path: Path, slide: SlideFrame) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    from stainda.annotations.formats import read_annotations

    problems: list[dict[str, str]] = []
    shapes = read_annotations(path, "asap", slide, problems=problems)
    shapes["geometry"] = shapes.geometry.make_valid()
    normal = shapes["class"].str.lower() == "normal"
    lesions = shapes[~normal].reset_index(drop=True)
    if normal.any():
        lesions["geometry"] = lesions.geometry.difference(shapes[normal].union_all())
    return lesions.assign(**{"class": "metastasis"}), problems


DATASET = PublicDataset(
    name="camelyon17",
    title="CAMELYON17",
    good_for="one stain, five centres: generalisation between centres and scanners; metastases of lymph nodes, not "
    "kidney",
    stains="HE",
    centres="five in the Netherlands (Nijmegen two, Utrecht, Arnhem, Hengelo)",
    licence="CC0",
    where="camelyon17.grand-challenge.org/Data (AWS, GigaScience)",
    layout="images/patient_PPP_node_N.tif with annotations/patient_PPP_node_N.xml",
    checked="the README of the data set, the file list of a mirror, and public loaders of the older layout; the "
    "names of "
    "ASAP's groups were not checked on a file",
    find=find,
)
