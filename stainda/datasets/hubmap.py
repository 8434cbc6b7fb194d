"""HuBMAP kidney ("Hacking the Kidney", Kaggle 2020/21): PAS sections with run-length masks of the glomeruli.

Layout (file lists quoted by public notebooks; run lengths and table read here from the original ``train.csv``)::

    train.csv (id, encoding)    train/ID.tiff, ID.json, ID-anatomical-structure.json    test/ID.tiff
    HuBMAP-20-dataset_information.csv (image_file, …, patient_number, …)

Where a slide has no run lengths, the outlines of ``ID.json`` (a bare list of QuPath features) are read. Tiles cut from
it, ``images*/ID_NUMBERredFACTOR.png`` with masks of the same name in ``masks*/``, are found as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stainda.annotations.guarded import read_csv
from stainda.datasets.entry import FoundSlide, Notes, PublicDataset, files_below, nothing_found, plain
from stainda.datasets.pixels import binary_objects
from stainda.errors import AnnotationError
from stainda.names import stem, with_ending

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.annotations.formats.frame import SlideFrame

GLOMERULUS = "glomerulus"
_TILE = re.compile(r"([0-9a-f]{9})_\d+(?:red\d+)?")
_ID = re.compile(r"[0-9a-f]{9}")


class _Runs(NamedTuple):
    """The run lengths of a slide, and the table that holds them."""

    text: str
    file: Path


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    slides = {stem(path): path for path in files_below(folder, ".tiff", ".tif") if _ID.fullmatch(stem(path))}
    tiles = _tiles(folder)
    if not slides and not tiles:
        raise nothing_found(DATASET.title, DATASET.layout, folder)
    patients = _patients(folder)
    runs = _run_lengths(folder)
    for identity in sorted(set(runs) - set(slides)):
        if not any(stem(tile).startswith(identity) for tile in tiles):
            notes.tell("missing", f"{identity}.tiff, of which {runs[identity].file.name} has the mask", identity)
    slides_found = [_slide(identity, path, patients, runs, notes) for identity, path in sorted(slides.items())]
    slides_found += [_of_tile(tile, patients) for tile in tiles]
    if unknown := {slide.patient for slide in slides_found} - set(patients.values()):
        notes.tell(
            "guessed", f"patient: {len(unknown)} slides without a patient in the table are each a patient of their own"
        )
    notes.tell("guessed", "centre: HuBMAP, as one; the tissue comes from several places that the table does not name")
    return slides_found


def _slide(identity: str, path: Path, patients: dict[str, str], runs: dict[str, _Runs], notes: Notes) -> FoundSlide:
    outlined = with_ending(path, ".json")
    shapes = None
    if identity in runs:

        def shapes(slide: SlideFrame) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
            from stainda.annotations.formats.run_length import decode
            from stainda.annotations.shapes import make_shapes

            return make_shapes(decode(runs[identity].text, *slide.size, runs[identity].file), GLOMERULUS), []

    elif outlined.is_file():

        def shapes(slide: SlideFrame) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
            from stainda.annotations import read_shapes

            problems: list[dict[str, str]] = []
            return read_shapes(outlined, problems).assign(**{"class": GLOMERULUS}), problems

    else:
        notes.tell("missing", "no mask: the slides of the test set have none", identity)
    patient = patients.get(identity, identity)
    return FoundSlide(identity, patient, identity, 1, "PAS", "HuBMAP", path, shapes=shapes)


def _tiles(folder: Path) -> list[Path]:
    """Tiles that have a mask: in ``masks…`` next to their folder ``images…``."""
    return [
        path for path in files_below(folder, ".png")
        if path.parent.name.startswith("images") and _TILE.fullmatch(stem(path)) and _mask_of(path).is_file()
    ]  # fmt: skip


def _mask_of(tile: Path) -> Path:
    return tile.parents[1] / tile.parent.name.replace("images", "masks", 1) / tile.name


def _of_tile(tile: Path, patients: dict[str, str]) -> FoundSlide:
    identity = stem(tile).split("_")[0]
    mask = _mask_of(tile)
    return FoundSlide(
        stem(tile), patients.get(identity, identity), stem(tile), 1, "PAS", "HuBMAP", tile,
        shapes=lambda slide: binary_objects(mask, slide, GLOMERULUS),
    )  # fmt: skip


def _patients(folder: Path) -> dict[str, str]:
    for path in files_below(folder, ".csv"):
        if path.name.lower().startswith("hubmap") and "information" in path.name.lower():
            header, *rows = read_csv(path)
            if {"image_file", "patient_number"} <= set(header):
                image, patient = header.index("image_file"), header.index("patient_number")
                return {stem(row[image]): plain(row[patient]) for row in rows if len(row) > max(image, patient)}
    return {}


def _run_lengths(folder: Path) -> dict[str, _Runs]:
    """The run lengths by slide; a table of others (a sample submission) has none."""
    for path in files_below(folder, ".csv"):
        if path.name.lower() == "train.csv":
            header, *rows = read_csv(path)
            if [name.strip().lower() for name in header] != ["id", "encoding"]:
                raise AnnotationError(
                    f"the columns are {', '.join(map(repr, header))}, not 'id' and 'encoding'", file=path, row=1
                )
            return {row[0].strip(): _Runs(row[1], path) for row in rows if len(row) == 2 and row[1].strip()}
    return {}


DATASET = PublicDataset(
    name="hubmap_kidney",
    title="HuBMAP kidney (Hacking the Kidney)",
    good_for="glomeruli on whole PAS slides, fresh frozen and paraffin: training on PAS, or a second PAS centre to "
    "test "
    "on; one stain, no consecutive sections",
    stains="PAS",
    centres="HuBMAP (collected from several, not stated)",
    licence="HuBMAP's and Kaggle's terms: check before passing on",
    where="kaggle.com/c/hubmap-kidney-segmentation, or doi.org/10.5281/zenodo.7729609",
    layout="train.csv and train/ID.tiff (ID: 9 hexadecimal digits)",
    checked="file lists in public notebooks; run lengths and columns on the original train.csv; no whole slide was "
    "at hand",
    find=find,
)
