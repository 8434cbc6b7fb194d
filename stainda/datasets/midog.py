"""MIDOG 2021 and MIDOG++: mitotic figures in H&E, regions of 2 mm² from several scanners, tumours and species.

Layout (public loaders)::

    images/001.tiff …    MIDOG.json (2021) or databases/MIDOG++.json    datasets_xvalidation.csv (MIDOG++)

The JSON looks like COCO's, but its boxes are corners (x1, y1, x2, y2), 50 px around a point that was clicked. Both are
tried, and whichever gives boxes of 50 px is taken. Cases 151 to 200 of 2021 have no labels; a labelled case without an
entry has no mitotic figure.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from stainda.annotations.guarded import read_csv, read_json
from stainda.arrays import Array
from stainda.cohort import Split
from stainda.datasets.entry import FoundSlide, Notes, PublicDataset, files_below, nothing_found
from stainda.errors import AnnotationError
from stainda.names import stem

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.annotations.formats.frame import SlideFrame

_BOX = 50.0
_SCANNERS_2021 = ((50, "Hamamatsu XR"), (100, "Hamamatsu S360"), (150, "Aperio ScanScope CS2"), (200, "Leica GT450"))
_UNLABELLED = range(151, 201)
_CLASSES = {1: "mitotic_figure", 2: "non_mitotic_figure"}
_SPELLING = {"Hamammatsu XR": "Hamamatsu XR"}


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    images = {int(stem(p)): p for p in files_below(folder, ".tiff", ".tif") if stem(p).isdigit() and len(stem(p)) == 3}
    database = next((p for p in files_below(folder, ".json") if stem(p).upper().startswith("MIDOG")), None)
    if not images or database is None:
        raise nothing_found(DATASET.title, DATASET.layout, folder)
    known, boxes = _database(database)
    table = _table(folder)
    plus = "++" in database.name or max(known, default=0) > 200
    slides_found = []
    for number, path in sorted(images.items()):
        name = f"midog_{number:03d}"
        row = table.get(number, {})
        labelled = number in known and number not in _UNLABELLED
        if number not in known:
            notes.tell("missing", f"{path.name} is not in {database.name}", name)
        scanner = row.get("Scanner") or (_scanner_2021(number) if number <= 200 else "")
        split: Split | None = {"train": "train", "test": "test"}.get(row.get("Dataset", "").lower())  # type: ignore[assignment]
        slides_found.append(
            FoundSlide(
                name, name, name, 1, "HE", row.get("Origin") or ("UMC_Utrecht" if number <= 200 else "unknown"), path,
                scanner=_SPELLING.get(scanner, scanner), split=split if labelled else None,
                shapes=functools.partial(_boxes, boxes[number]) if labelled else None,
            )
        )  # fmt: skip
    absent = sorted(set(known) - set(images))
    if absent:
        listed = ", ".join(f"{number:03d}" for number in absent[:10]) + (" …" if len(absent) > 10 else "")
        notes.tell("missing", f"{len(absent)} of {len(known)} images of {database.name}: {listed}")
    if plus and not table:
        notes.tell(
            "missing", "datasets_xvalidation.csv: without it scanner and centre of cases above 200 are not known"
        )
    notes.tell("guessed", "patient: every case is one patient, as published; pixel sizes are read from the files")
    notes.tell("guessed", "shapes: boxes of 50 px around the point that was clicked, not outlines of nuclei")
    return slides_found


def _scanner_2021(number: int) -> str:
    return next(name for last, name in _SCANNERS_2021 if number <= last)


def _database(path: Path) -> tuple[set[int], dict[int, list[tuple[list[float], int]]]]:
    """The numbers of the images, and boxes (x1, y1, x2, y2) with category by image.

    Raises:
        AnnotationError: not such a file, or boxes of another size.
    """
    document = read_json(path)
    images = document.get("images") if isinstance(document, Mapping) else None
    entries = document.get("annotations") if isinstance(document, Mapping) else None
    if not isinstance(images, list) or not isinstance(entries, list):
        raise AnnotationError("not MIDOG's file: it lacks the lists 'images' and 'annotations'", file=path)
    try:
        numbers = {image["id"]: int(stem(str(image["file_name"]))) for image in images}
        raw = np.array([record["bbox"] for record in entries], float).reshape(-1, 4)
        owners = [numbers[record["image_id"]] for record in entries]
        categories = [int(record["category_id"]) for record in entries]
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError(f"not MIDOG's file: an entry cannot be read ({error})", file=path) from error
    grouped: dict[int, list[tuple[list[float], int]]] = defaultdict(list)
    for owner, box, category in zip(owners, _corners(raw, path).tolist(), categories, strict=True):
        grouped[owner].append((box, category))
    return set(numbers.values()), grouped


def _corners(raw: Array, path: Path) -> Array:
    if not len(raw):
        return raw
    if np.isfinite(raw).all():
        if np.allclose(raw[:, 2:] - raw[:, :2], _BOX, atol=1.0):
            return raw
        if np.allclose(raw[:, 2:], _BOX, atol=1.0):
            return np.concatenate([raw[:, :2], raw[:, :2] + raw[:, 2:]], axis=1)
    raise AnnotationError(
        "its boxes are not of 50 px, read as corners or as corner and size", file=path,
        remedy="Is it the original file? Its boxes are 50 px around a point",
    )  # fmt: skip


def _table(folder: Path) -> dict[int, dict[str, str]]:
    for path in files_below(folder, ".csv"):
        if "xvalidation" in path.name.lower():
            header, *rows = read_csv(path)
            cells = [dict(zip(header, row, strict=False)) for row in rows]
            return {int(row["Slide"]): row for row in cells if row.get("Slide", "").isdigit()}
    return {}


def _boxes(boxes: list[tuple[list[float], int]], slide: SlideFrame) -> tuple[gpd.GeoDataFrame, list[dict[str, Any]]]:
    from stainda.annotations import make_shapes

    classes = [_CLASSES.get(category, f"category_{category}") for _, category in boxes]
    return make_shapes([shapely.box(*corners) for corners, _ in boxes], classes), []


DATASET = PublicDataset(
    name="midog",
    title="MIDOG 2021 and MIDOG++",
    good_for="detection across scanners, laboratories, tumours and species: the scanner as the domain; points with "
    "boxes, "
    "no outlines, no consecutive sections",
    stains="HE",
    centres="UMC Utrecht (2021); several laboratories (MIDOG++)",
    licence="not checked: read the record at the place of download",
    where="zenodo.org/record/4643381 (2021); figshare.com, collection 6615571 (MIDOG++)",
    layout="images/NNN.tiff with MIDOG.json or MIDOG++.json (and datasets_xvalidation.csv for MIDOG++)",
    checked="several public loaders (scanner ranges, meaning of the boxes, columns of the table); no file of it was "
    "at hand, "
    "so values of the column Origin were not checked",
    find=find,
)
