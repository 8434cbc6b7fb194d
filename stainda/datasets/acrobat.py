"""ACROBAT: breast cancer, one H&E slide and one to four IHC slides per patient, 10x; points of its validation set.

Layout (README of the data set; public loaders)::

    [train|valid|test]/ID_STAIN_SET.tif                 STAIN is HE, ER, PGR, HER2 or KI67
    df_acrobat_meta.csv                                 anon_id, set, stain, filename, vendor, model, mpp_lvl_0, …
    acrobat_validation_points_public_1_of_1.csv

The same ID is used in each set for another patient. Points are micrometres from the upper left corner (most public
loaders divide by ``mpp_ihc_10X``; one takes them as pixels). The public file has no points on the H&E slide: the
challenge keeps them. Landmarks are written only where a table has both.
"""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.annotations.guarded import read_csv
from stainda.cohort import Split
from stainda.datasets.entry import FoundSlide, Notes, PublicDataset, files_below, nothing_found
from stainda.names import stem

if TYPE_CHECKING:
    import pandas as pd

_NAME = re.compile(r"(\d+)_(HE|ER|PGR|HER2|KI67)_(train|val|valid|test)", re.IGNORECASE)
_STAINS = ("HE", "ER", "PGR", "HER2", "KI67")
_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "test": "test"}
_POINTS = (
    "anon_filename_he",
    "anon_filename_ihc",
    "point_id",
    "ihc_x",
    "ihc_y",
    "mpp_ihc_10X",
    "mpp_he_10X",
    "he_x",
    "he_y",
)


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    slides = [path for path in files_below(folder, ".tif", ".tiff", ".ndpi") if _NAME.fullmatch(stem(path))]
    if not slides:
        raise nothing_found(DATASET.title, DATASET.layout, folder)
    meta = _meta(folder)
    points = _points(folder, notes)
    slides_found = []
    for path in slides:
        match = _NAME.fullmatch(stem(path))
        assert match is not None
        stain, split = match[2].upper(), _SPLITS[match[3].lower()]
        patient, row = f"{split}_{match[1]}", meta.get(stem(path).lower(), {})
        marks = points.get(stem(path).lower())
        slides_found.append(
            FoundSlide(
                stem(path), patient, patient, 1 + _STAINS.index(stain), stain, "Karolinska", path,
                scanner=" ".join(filter(None, (row.get("vendor", ""), row.get("model", "")))),
                mpp=_number(row.get("mpp_lvl_0")), split=split,
                landmarks=functools.partial(_frame, marks) if marks else None,
            )
        )  # fmt: skip
    known = {stem(path).lower() for path in slides}
    if absent := sorted(set(meta) - known):
        listed = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
        notes.tell("missing", f"{len(absent)} of {len(meta)} slides of df_acrobat_meta.csv: {listed}")
    if not meta:
        notes.tell("missing", "df_acrobat_meta.csv: without it scanners are not stated")
    notes.tell("guessed", "section: HE first, then ER, PGR, HER2, KI67; the order of the cut is not published")
    notes.tell("guessed", "centre: Karolinska, where all were scanned; the slides were stained in routine laboratories")
    return slides_found


def _meta(folder: Path) -> dict[str, dict[str, str]]:
    for path in files_below(folder, ".csv"):
        if "acrobat_meta" in path.name.lower():
            header, *rows = read_csv(path)
            cells = [dict(zip(header, row, strict=False)) for row in rows]
            return {stem(row["filename"]).lower(): row for row in cells if row.get("filename")}
    return {}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < 100 else None


def _points(folder: Path, notes: Notes) -> dict[str, list[tuple[str, float, float]]]:
    """Landmarks in pixels by file name, of pairs of points that are both there."""
    points: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    known: set[str] = set()
    for path in files_below(folder, ".csv"):
        header, *rows = read_csv(path) if "points" in path.name.lower() else [[]]
        if not set(_POINTS) <= set(header):
            continue
        alone = twice = 0
        for cells in rows:
            row = dict(zip_longest(header, cells[: len(header)], fillvalue=""))
            pair = _pixels(row)
            he, ihc = (stem(row[key]).lower() for key in ("anon_filename_he", "anon_filename_ihc"))
            identity = f"{ihc}/{row['point_id'].strip()}"
            if pair is None:
                alone += 1
            elif identity in known:
                twice += 1
            else:
                known.add(identity)
                points[he].append((identity, *pair[0]))
                points[ihc].append((identity, *pair[1]))
        if twice:
            notes.tell("left out", f"{twice} points of {path.name} have the point_id of an earlier one of their slides")
        if alone:
            notes.tell("missing", f"{alone} points of {path.name} have no counterpart on H&E: the challenge keeps them")
    if points:
        notes.tell(
            "guessed", "landmarks: micrometres divided by mpp_…_10X, as most public loaders do; one takes pixels"
        )
    return points


def _pixels(row: dict[str, str]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """A point on the H&E and on the IHC slide, level-0 pixels; ``None`` where one of the two is not stated."""
    he_mpp, ihc_mpp = _number(row["mpp_he_10X"]), _number(row["mpp_ihc_10X"])
    if he_mpp is None or ihc_mpp is None:
        return None
    try:
        he_x, he_y, ihc_x, ihc_y = (float(row[key]) for key in ("he_x", "he_y", "ihc_x", "ihc_y"))
    except ValueError:
        return None
    pair = (he_x / he_mpp, he_y / he_mpp), (ihc_x / ihc_mpp, ihc_y / ihc_mpp)
    return pair if all(math.isfinite(value) for point in pair for value in point) else None


def _frame(rows: list[tuple[str, float, float]]) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {"id": [r[0] for r in rows], "x": [r[1] for r in rows], "y": [r[2] for r in rows]}
    return pd.DataFrame(columns)


DATASET = PublicDataset(
    name="acrobat",
    title="ACROBAT",
    good_for="registration of IHC to H&E from routine, on 1,153 patients: gates, failures, speed; its landmarks on "
    "H&E are "
    "kept by the challenge, so no landmark error here; no objects annotated",
    stains="HE, ER, PGR, HER2, KI67",
    centres="scanned at Karolinska Institutet on three Hamamatsu scanners",
    licence="CC BY 4.0 (as releases derived from it state: check at the place of download)",
    where="Swedish National Data Service (researchdata.se: ACROBAT); acrobat.grand-challenge.org",
    layout="ID_STAIN_SET.tif, for example 0_HE_val.tif, with df_acrobat_meta.csv",
    checked="the README of the data set (columns, sets) and several public loaders; no file of it was at hand, so "
    "the unit of "
    "the points was not checked",
    find=find,
)
